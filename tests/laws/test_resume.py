"""Law 3: stopped anywhere and gone on with equals never stopped, to the last bit."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from thinned import every_other

from rlft_cli import durable
from rlft_cli.cli import main
from rlft_cli.explore.dropout_thompson import DropoutThompson
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.linucb import LinUcb
from rlft_cli.explore.noisy import Noisy
from rlft_cli.explore.sample import Sample
from rlft_cli.explore.thompson import Thompson
from rlft_cli.explore.ucb import Ucb
from rlft_cli.feedback.noisy import Noisy as Noise
from rlft_cli.learner import learn
from rlft_cli.linear import LinearRewards
from rlft_cli.memory.prioritised import Prioritised
from rlft_cli.memory.replay import Replay
from rlft_cli.sampler import BatchSampler
from rlft_cli.training import Training
from toy_training import (
    bind,
    class_rows,
    differences,
    dqn,
    expert_iteration,
    grpo,
    largest_difference,
    policy_of,
    ppo,
    reinforce,
    supervised,
    tagged_rows,
    tiny,
    training,
    weights,
)

STEPS = 5  # before the stop, in the middle of a pass, and after it
REPOSITORY = Path(__file__).parent.parent.parent


def epsilon_greedy() -> EpsilonGreedy:
    return EpsilonGreedy(start=0.8, end=0.1, decay_fraction=1.0, schedule="exponential")


def replay() -> Replay:
    return Replay(capacity=30, warmup_episodes=16, replay_ratio=2)


def supervised_run(seed: int) -> Training:
    return build(tagged_rows, supervised(0.1), seed, tiny(dropout=0.3), {})


def dqn_run(seed: int) -> Training:
    algorithm = dqn(gamma=0.9, loss_kind="huber", dueling=True, n_step=2, target_tau=0.1)
    return build(tagged_rows, algorithm, seed, tiny(), {"explore": epsilon_greedy(), "memory": replay()})


def prioritised_run(seed: int) -> Training:
    memory = Prioritised(capacity=30, warmup_episodes=16, replay_ratio=2, alpha=0.8, beta_start=0.4)
    algorithm = dqn(gamma=0.9, loss_kind="huber", backup="munchausen", target_tau=0.1, target_weights="head")
    return build(tagged_rows, algorithm, seed, tiny(), {"explore": epsilon_greedy(), "memory": memory})


def hard_run(seed: int) -> Training:
    algorithm = dqn(gamma=0.9, loss_kind="mse", backup="max", target="hard", target_update_interval=4)
    return build(tagged_rows, algorithm, seed, tiny(), {"explore": Ucb(c=1.0), "memory": replay()})


def bandit_run(seed: int) -> Training:
    return build(class_rows, dqn(), seed, tiny(), {"explore": Ucb(c=1.0), "memory": replay()})


def reinforce_run(seed: int) -> Training:
    algorithm = reinforce(
        samples=2, baseline="moving_average", entropy_coefficient=0.01, kl_coefficient=0.05, gamma=1.0
    )
    return build(tagged_rows, algorithm, seed, tiny(), {"explore": Sample(temperature=0.8, top_k=0, top_p=1.0)})


def self_critical_run(seed: int) -> Training:
    return build(
        class_rows,
        reinforce(baseline="self_critical"),
        seed,
        tiny(),
        {"explore": Sample(temperature=1.0, top_k=0, top_p=1.0)},
    )


def sampling(algorithm: Any, seed: int) -> Training:
    return build(tagged_rows, algorithm, seed, tiny(), {"explore": Sample(temperature=1.0, top_k=0, top_p=1.0)})


def leave_one_out_run(seed: int) -> Training:
    return sampling(reinforce(samples=2), seed)


def mixed_run(seed: int) -> Training:
    made = sampling(reinforce(samples=2), seed)
    shown = list(range(12))
    made.labelled = BatchSampler(shown, made.task.cost(shown), batch_tokens=200, most=5, seed=3)
    made.label_coefficient = 0.3
    return made


def ppo_run(seed: int) -> Training:
    return sampling(ppo(gamma=1.0, epochs=2, kl_coefficient=0.05), seed)


def grpo_run(seed: int) -> Training:
    return sampling(grpo(samples=2, epochs=2, kl_coefficient=0.5, kl_target=0.01, kl_rate=1.0), seed)


def linucb_run(seed: int) -> Training:
    explore = LinUcb(alpha=0.5, regression=LinearRewards(ridge=1.0, refresh_batches=3, window_episodes=20))
    return build(class_rows, dqn(), seed, tiny(), {"explore": explore})


def thompson_run(seed: int) -> Training:
    explore = Thompson(noise=0.3, regression=LinearRewards(ridge=1.0, refresh_batches=3, window_episodes=20))
    return build(tagged_rows, dqn(), seed, tiny(), {"explore": explore, "memory": replay()})


def noisy_run(seed: int) -> Training:
    algorithm = dqn(gamma=0.9, loss_kind="huber")
    made = build(tagged_rows, algorithm, seed, tiny(), {"explore": Noisy(sigma_start=0.5)}, frozenset({"noise"}))
    assert any(name.startswith("head.noise.") for name, _ in made.policy.named_parameters())
    return made


def dropout_run(seed: int) -> Training:
    return build(class_rows, dqn(), seed, tiny(), {"explore": DropoutThompson(p=0.3), "memory": replay()})


def expert_iteration_run(seed: int) -> Training:
    noisy = Noise(flip_zero=0.1, flip_one=0.1, gaussian=0.0, missing=0.1, correct=False, unit="decision")
    return build(tagged_rows, expert_iteration(simulations=4), seed, tiny(), {"feedback": noisy, "memory": replay()})


RUNS = [
    expert_iteration_run,
    linucb_run,
    thompson_run,
    noisy_run,
    dropout_run,
    supervised_run,
    dqn_run,
    prioritised_run,
    hard_run,
    bandit_run,
    reinforce_run,
    self_critical_run,
    leave_one_out_run,
    mixed_run,
    ppo_run,
    grpo_run,
]


def build(
    rows: Any, algorithm: Any, seed: int, model: Any, parts: dict[str, Any], reads: frozenset[str] = frozenset()
) -> Training:
    """A fresh training; ``seed`` decides the weights it starts from and nothing else."""
    task = bind(rows(40, seed=4), model)
    policy = policy_of(model, task, algorithm.reads | reads, seed)
    torch.manual_seed(11)  # dropout
    return training(policy, task, algorithm, count=40, passes=6.0, **parts)


def steps(made: Training, count: int) -> None:
    taken = list(islice(learn(made), count))
    assert len(taken) == count and made.done < 1


@pytest.mark.parametrize("run", every_other(RUNS))
def test_stopped_and_gone_on_with_is_never_stopped(run: Any, tmp_path: Path) -> None:
    through = run(seed=1)
    steps(through, 2 * STEPS)

    first = run(seed=1)
    steps(first, STEPS)
    assert first.sampler.position != 0, "the stop must be in the middle of a pass"
    durable.save_nested(tmp_path, first.state_dict())
    halfway = weights(first.policy)
    torch.manual_seed(99)  # what a new process would have

    second = run(seed=2)
    assert largest_difference(halfway, weights(second.policy)) > 0
    second.load_state_dict(durable.load_nested(tmp_path))
    assert differences(halfway, weights(second.policy)) == []
    steps(second, STEPS)
    assert largest_difference(halfway, weights(second.policy)) > 1e-4
    assert differences(through.state_dict(), second.state_dict()) == []


@pytest.mark.parametrize(
    ("run", "part"),
    every_other(
        [
            (supervised_run, "torch_generator"),
            (supervised_run, "optimizer"),
            (supervised_run, "sampler"),
            (dqn_run, "generator"),
            (dqn_run, "memory_generator"),
            (dqn_run, "memory"),
            (dqn_run, "target"),
            (prioritised_run, "memory"),
            (prioritised_run, "target"),
            (dqn_run, "seen"),
            (hard_run, "explore"),
            (linucb_run, "explore"),
            (thompson_run, "explore"),
            (noisy_run, "generator"),
            (reinforce_run, "algorithm"),
            (reinforce_run, "reference"),
            (mixed_run, "labelled"),
        ]
    ),
)
def test_every_part_of_the_state_matters(run: Any, part: str) -> None:
    """The mutation twins: each part, when it is forgotten, changes the weights that come out."""
    halfway, end = stopped(run)
    second = run(seed=2)
    torch.manual_seed(99)
    second.load_state_dict({**copy.deepcopy(halfway), part: second.state_dict()[part]})
    steps(second, STEPS)
    assert differences(end, weights(second.policy)) != []


@cache
def stopped(run: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state of a run halfway, and its weights at the end."""
    made = run(seed=1)
    steps(made, STEPS)
    halfway = copy.deepcopy(made.state_dict())
    steps(made, STEPS)
    return halfway, weights(made.policy)


# -- through the command line --------------------------------------------------------------------------------------

WORDS = [
    "task=ner",
    "algo=dqn",
    "model=tiny",
    "model.width=16",
    "model.layers=1",
    "hardware=cpu",
    "hardware.precision=fp32",
    "hardware.threads=1",
    "data.max_train=40",
    "data.max_dev=8",
    "data.max_test=8",
    "data.unseen_labels=drop",
    "memory=replay",
    "memory.warmup_episodes=8",
    "algo.gamma=0.5",
    "algo.loss_kind=huber",
    "evaluation.bootstrap=2",
    "console=plain",
    "selection.by=last",
]


def saved(run: Path) -> dict[str, Any]:
    """What a run left: state, and the weights of its checkpoint."""
    from safetensors.torch import load_file

    state = durable.load_nested(run / "state")
    del state["seconds"]
    heads, body = (load_file(run / "checkpoint" / f"{name}.safetensors") for name in ("heads", "model"))
    return {"state": state, "heads": heads, "body": body}


@pytest.mark.slow
def test_interrupted_by_ctrl_c_and_resumed(tmp_path: Path) -> None:
    """The real command, stopped by a signal in another process, goes on to the weights of a run that was left alone."""
    call = (
        f"import sys; sys.argv = {['rlft', 'train', *WORDS, 'passes=8', f'run_dir={tmp_path}/stopped']!r}; "
        "from rlft_cli.cli import main; sys.exit(main())"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", call], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line.startswith("passes 1 "):
            process.send_signal(signal.SIGINT)
            break
    process.stdout.read()
    said = process.stderr.read()
    assert process.wait(60) == 130, said
    assert f"rlft train resume={tmp_path}/stopped" in said, said
    assert not (tmp_path / "stopped" / "result.json").exists()
    stopped = durable.load_nested(tmp_path / "stopped" / "state")["training"]["step"]

    AcceleratorState._reset_state(reset_partial_state=True)
    assert main(["train", *WORDS, "passes=8", f"run_dir={tmp_path}/whole"]) == 0
    assert main(["train", f"resume={tmp_path}/stopped", "console=plain"]) == 0
    assert (tmp_path / "stopped" / "result.json").exists()
    whole = saved(tmp_path / "whole")
    assert 0 < stopped < whole["state"]["training"]["step"]
    assert differences(whole, saved(tmp_path / "stopped")) == []
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "stopped")]
    assert logs[0] == logs[1] and logs[0].count('"dev.f1":') == 8
