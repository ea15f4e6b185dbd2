"""Law 2: how a batch is cut into micro-batches, or dealt to processes, does not change what is learned."""

from __future__ import annotations

import os
import socket
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file, save_file
from thinned import thinned
from torch import Tensor

from rlft_cli import update as update_module
from rlft_cli.collect import act, collect
from rlft_cli.episode import Trajectory, demonstrate
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.learner import learn
from rlft_cli.memory.latest import Latest
from rlft_cli.training import Training
from rlft_cli.update import update
from toy_training import (
    bind,
    c51,
    class_rows,
    doubly_robust,
    dqn,
    dqnimb,
    expert_iteration,
    filtered_bc,
    ilql,
    ips,
    largest_difference,
    lstm,
    optim,
    plain_gradient_steps,
    policy_of,
    quantile,
    supervised,
    tagged_rows,
    tiny,
    training,
    weights,
)

TOLERANCE = 1e-6
RATE = 0.5  # of plain gradient steps: a wrong factor moves weights by far more than the tolerance
SIZES = {"micro_batches": 1, "max_grad_norm": 1e9, "batch_tokens": 10_000, "max_batch_episodes": 32}


def after_updates(
    micro_batches: int, algorithm: Any, rows: list[Any], model: Any, rate: float = RATE
) -> dict[str, Tensor]:
    """Weights after three updates on the same 32 episodes."""
    task = bind(rows, model)
    policy = policy_of(model, task, algorithm.reads)
    settings = optim(**(SIZES | {"micro_batches": micro_batches}))
    explore = EpsilonGreedy(start=1.0, end=1.0, decay_fraction=1.0, schedule="constant")
    made = training(policy, task, algorithm, optim=settings, explore=explore, count=32)
    if rate:
        plain_gradient_steps(made, rate)
    policy.eval()
    ids = list(range(32))
    fixed = demonstrate(task, {"id": torch.tensor(ids)}) if algorithm.needs == "labels" else paid(made, ids)
    before = weights(policy)
    for _ in range(3):
        update(made, fixed)
    assert largest_difference(before, weights(policy)) > 1e-3
    return weights(policy)


def paid(made: Training, ids: list[int]) -> Trajectory:
    trajectory, _ = act(made, ids)
    return trajectory


CASES = {
    "supervised": supervised,
    "smoothed": lambda: supervised(0.1),
    "dqn": dqn,
    "softmax": lambda: dqn(loss_kind="softmax"),
    "munchausen": lambda: dqn(gamma=0.9, loss_kind="huber", backup="munchausen", target_weights="head", target_tau=0.5),
    "cql": lambda: dqn(gamma=0.9, loss_kind="mse", cql_coefficient=0.5),
    "ips": lambda: ips(gamma=0.9, translation=0.3),
    "filtered_bc": lambda: filtered_bc(gamma=0.9),
    "expert_iteration": lambda: expert_iteration(gamma=0.9, threshold=None),
    "doubly_robust": doubly_robust,
    "c51": lambda: c51(gamma=0.9, n_step=2),
    "quantile": lambda: quantile(gamma=0.9, quantiles=4, kappa=1.0),
    "ilql": lambda: ilql(gamma=0.9),
    "dqnimb": dqnimb,
    "bootstrapped": lambda: dqn(gamma=0.9, loss_kind="huber", dueling=True, target_tau=0.5),
}


@pytest.mark.parametrize(
    ("model", "algorithm"), thinned(product([tiny, lstm], CASES), lambda case: case[0] is tiny or case[1] == "dqn")
)
def test_micro_batches_of_tags(model: Any, algorithm: str) -> None:
    rows = tagged_rows(32, seed=1)
    rate = 0.1 if algorithm == "ilql" else RATE  # its four parts diverge at RATE, and rounding with them
    whole = after_updates(1, CASES[algorithm](), rows, model(), rate)
    parts = after_updates(8, CASES[algorithm](), rows, model(), rate)
    assert largest_difference(whole, parts) < TOLERANCE


@pytest.mark.parametrize("algorithm", ["supervised", "dqn"])
def test_micro_batches_of_classes(algorithm: str) -> None:
    rows = class_rows(32, seed=1)
    whole = after_updates(1, CASES[algorithm](), rows, tiny())
    parts = after_updates(8, CASES[algorithm](), rows, tiny())
    uneven = after_updates(5, CASES[algorithm](), rows, tiny())
    assert max(largest_difference(whole, parts), largest_difference(whole, uneven)) < TOLERANCE


def test_averaging_each_micro_batch_by_itself_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation twin: mean of means instead of the sum over all decisions."""
    rows = tagged_rows(32, seed=1)
    right = after_updates(1, supervised(), rows, tiny())

    whole = update_module.micro_batch_loss

    def wrong(t: Any, part: Any, drawn: Any) -> Any:
        loss, signals = whole(t, part, drawn)
        return loss / part.mask.sum() * 32 * 9 / 16, signals  # about as large as the right one

    monkeypatch.setattr(update_module, "micro_batch_loss", wrong)
    assert largest_difference(right, after_updates(8, supervised(), rows, tiny())) > 100 * TOLERANCE


# -- three processes -----------------------------------------------------------------------------------------------


def test_a_process_without_a_share_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two examples for three processes: the third learns from an episode that counts for nothing, and from no duplicate."""
    found = []
    for rank in range(3):
        task = bind(tagged_rows(24, seed=2), tiny())
        made = training(policy_of(tiny(), task), task, supervised())
        monkeypatch.setattr(Accelerator, "process_index", rank)
        monkeypatch.setattr(Accelerator, "num_processes", 3)
        assert collect(made, [7, 4]) == ({}, True)
        monkeypatch.undo()
        batch = made.memory.sample(1000, 100, torch.Generator())
        found.append((made.counts.label_decisions, int(batch.mask.sum()), batch.observation["id"].tolist()))
    lengths = [len(row["words"]) for row in tagged_rows(24, seed=2)]
    assert found[:2] == [(lengths[7], lengths[7], [7]), (lengths[4], lengths[4], [4])]
    assert found[2][:2] == (0, 0)


def _train(algorithm: str, rows: list[Any]) -> dict[str, Tensor]:
    """Weights after a pass over the same global batches, by however many processes there are."""
    model = tiny()
    task = bind(rows, model)
    policy = policy_of(model, task)
    memory = Latest()
    sizes = SIZES | {"max_batch_episodes": 2} if algorithm == "lone_examples" else SIZES
    passes = 0.5 if algorithm == "lone_examples" else 2.0  # six updates: more of them add up more rounding
    make = CASES["dqn" if algorithm == "dqn" else "supervised"]
    made = training(policy, task, make(), optim=optim(**sizes), count=24, memory=memory, passes=passes)
    plain_gradient_steps(made, RATE)
    if algorithm != "dqn":
        for _ in learn(made):
            pass
        return weights(policy)
    policy.eval()
    everyone = paid(made, list(range(24)))  # greedy and without ties: the same in all processes
    mine = torch.arange(made.accelerator.process_index, 24, made.accelerator.num_processes)
    for _ in range(3):
        update(made, everyone.select(mine))
    return weights(policy)


def _process(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    for algorithm in SHARED:
        found = _train(algorithm, tagged_rows(24, seed=2))
        assert PartialState().num_processes == 3
        save_file({name: weight.contiguous() for name, weight in found.items()}, Path(folder) / f"{algorithm}.{rank}")
    torch.distributed.destroy_process_group()


SHARED = ("supervised", "lone_examples", "dqn")  # lone_examples: two for three processes, one of which has none


@pytest.mark.distributed
def test_three_processes_learn_what_one_learns(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    mp.spawn(_process, args=(port, str(tmp_path)), nprocs=3)
    AcceleratorState._reset_state(reset_partial_state=True)
    for algorithm in SHARED:
        alone = _train(algorithm, tagged_rows(24, seed=2))
        for rank in range(3):
            assert largest_difference(alone, load_file(tmp_path / f"{algorithm}.{rank}")) < TOLERANCE
