"""The loop: it stops at what is no number, follows its schedule, counts, and learns problems whose answer is known."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from rlft_cli.collect import fold
from rlft_cli.episode import blank
from rlft_cli.errors import RewardFailure
from rlft_cli.evaluation import Evaluator
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.linucb import LinUcb
from rlft_cli.explore.sample import Sample
from rlft_cli.feedback.delayed import Delayed
from rlft_cli.finite import NonFiniteError
from rlft_cli.learner import learn
from rlft_cli.linear import LinearRewards
from rlft_cli.memory.latest import Latest
from rlft_cli.memory.replay import Replay
from rlft_cli.reward.http import Http
from rlft_cli.reward.sentence_f1 import SentenceF1
from rlft_cli.sampler import BatchSampler
from rlft_cli.task import Row
from rlft_cli.training import Training, make_optimizer
from rlft_cli.update import update
from toy_rewards import agreeing, serving
from toy_training import (
    LABELS,
    TablePolicy,
    bind,
    class_rows,
    dialogue_rows,
    differences,
    dqn,
    largest_difference,
    lstm,
    optim,
    plain_gradient_steps,
    policy_of,
    ppo,
    reinforce,
    supervised,
    tagged_rows,
    tiny,
    training,
    weights,
)

# -- what is not a number ------------------------------------------------------------------------------------------


def table_training(**parts: Any) -> tuple[Training, Any]:
    task = bind(tagged_rows(4), tiny())
    policy = TablePolicy(torch.zeros(4, 3, 5))
    made = training(policy, task, supervised(), count=4, **parts)
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [True, True, True]])
    return made, blank({"id": torch.arange(4), "x": torch.zeros(4)}, torch.zeros(4, 3, dtype=torch.int64), mask)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_three_updates_that_are_no_numbers_stop_with_the_batch(value: float) -> None:
    made, batch = table_training()
    bad = replace(batch, observation={"id": torch.arange(4), "x": torch.full((4,), value)})
    healthy = made.policy.scores.detach().clone()  # type: ignore[operator, union-attr]
    made.policy.scores.data[0, 0, 0] = value  # type: ignore[index, union-attr]
    before = weights(made.policy)
    assert update(made, bad) == {"nonfinite": 1.0}
    assert update(made, bad) == {"nonfinite": 2.0}
    assert str(before) == str(weights(made.policy)), "a skipped update changes nothing"
    assert made.optimizer.state_dict()["state"] == {}
    with pytest.raises(NonFiniteError, match=r"3 updates in a row.*optim.lr") as caught:
        update(made, bad)
    assert torch.equal(caught.value.batch.action, bad.action) and caught.value.exit_status == 1
    made.policy.scores.data = healthy  # type: ignore[union-attr]


def test_a_good_update_in_between_starts_the_count_again() -> None:
    made, batch = table_training()
    whole = made.policy.scores.detach().clone()  # type: ignore[operator, union-attr]
    for _ in range(3):
        made.policy.scores.data[0, 0, 0] = float("nan")  # type: ignore[index, union-attr]
        update(made, batch)
        update(made, batch)
        made.policy.scores.data.copy_(whole)  # type: ignore[operator, union-attr]
        assert "loss" in update(made, batch)
        assert made.nonfinite == 0


class Poison:
    """A reward that is no number."""

    decisions: ClassVar[tuple[str, ...]] = ("tags",)

    def __call__(self, action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        return torch.where(mask, torch.nan, 0.0)


def test_a_reward_that_is_no_number_stops_the_loop() -> None:
    task = bind(tagged_rows(24), tiny())
    policy = policy_of(tiny(), task)
    before = weights(policy)
    with pytest.raises(NonFiniteError):
        list(learn(training(policy, task, dqn(), reward=Poison())))
    assert differences(before, weights(policy)) == []


def test_a_policy_that_is_no_number_stops_before_it_acts() -> None:
    task = bind(tagged_rows(24), tiny())
    policy = policy_of(tiny(), task)
    policy.head.project.weight.data.fill_(torch.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(NonFiniteError, match=r"optim\.lr"):
        list(learn(training(policy, task, dqn())))


# -- schedule and settings -----------------------------------------------------------------------------------------


def test_learning_rate_schedule() -> None:
    # warm-up over the first fifth, then: linear 1 - (p - .2) / .8; cosine (1 + cos(pi (p - .2) / .8)) / 2
    linear = optim(warmup_fraction=0.2, schedule="linear")
    assert [linear.factor(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])
    cosine = optim(warmup_fraction=0.2, schedule="cosine")
    assert [cosine.factor(p) for p in (0.1, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0.5, 1.0, 0.853553, 0.5, 0.0])
    constant = optim(warmup_fraction=0.2, schedule="constant")
    assert [constant.factor(p) for p in (0.1, 0.2, 1.0)] == pytest.approx([0.5, 1.0, 1.0])
    assert optim(warmup_fraction=0.0, schedule="constant").factor(0.0) == 1.0
    assert optim(warmup_fraction=1.0, schedule="linear").factor(0.5) == 0.5


def test_rates_follow_the_schedule_in_training() -> None:
    task = bind(tagged_rows(24), tiny())
    settings = optim(lr=1e-4, head_lr=1e-2, warmup_fraction=0.5, schedule="linear", max_batch_episodes=4)
    made = training(policy_of(tiny(), task), task, supervised(), optim=settings, passes=1.0)
    spent, rates = 0.0, []
    for progress in learn(made):
        for group in made.optimizer.param_groups:
            assert group["lr"] == pytest.approx(group["base_lr"] * settings.factor(spent))
        rates.append(made.optimizer.param_groups[0]["lr"])
        spent = progress.done
    assert rates[0] == 0.0 < max(rates) > rates[-1] > 0.0


def test_body_and_head_decayed_and_not() -> None:
    task = bind(tagged_rows(4), tiny())
    policy = policy_of(tiny(), task)
    made = make_optimizer(policy, optim(lr=1.0, head_lr=2.0, weight_decay=0.3))
    where = {id(weight): group for group in made.param_groups for weight in group["params"]}
    for name, weight in policy.named_parameters():
        group = where[id(weight)]
        assert group["lr"] == (1.0 if name.startswith("body.") else 2.0)
        assert group["weight_decay"] == (0.3 if weight.dim() > 1 else 0.0), name
        assert not (weight.dim() > 1 and ("norm" in name.lower() or name.endswith("bias")))


def test_frozen_weights_are_not_in_the_optimizer_and_do_not_move() -> None:
    task = bind(tagged_rows(24), tiny())
    policy = policy_of(tiny(), task)
    for weight in policy.body.parameters():  # type: ignore[union-attr]
        weight.requires_grad_(False)
    made = training(policy, task, supervised())
    before = weights(policy)
    list(learn(made))
    changed = {line.split("/")[1].split(".")[0] for line in differences(before, weights(policy))}
    assert changed == {"head"}


def test_gradients_are_clipped_over_all_weights() -> None:
    made, batch = table_training(optim=optim(max_grad_norm=1e-3))
    grabbed: list[float] = []
    step = made.optimizer.step

    def spy(*given: Any) -> None:
        squares = [w.grad.square().sum() for w in made.policy.parameters() if w.grad is not None]
        grabbed.append(float(torch.stack(squares).sum().sqrt()))
        step(*given)

    made.stepper.step = spy
    norm = update(made, batch)["grad_norm"]
    assert norm > 1e-2, "what is reported is the norm before clipping"
    assert grabbed[0] == pytest.approx(1e-3, rel=1e-3)


# -- budget and counts ---------------------------------------------------------------------------------------------


def test_budget_and_progress() -> None:
    task = bind(tagged_rows(24), tiny())
    made = training(policy_of(tiny(), task), task, supervised(), passes=1.5, optim=optim(max_batch_episodes=5))
    seen = list(learn(made))
    assert [p.step for p in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].done == 1.0 and all(p.done < 1 for p in seen[:-1])
    assert 36 <= made.seen < 36 + 5
    assert sum(p.pass_ended for p in seen) == 1
    assert seen[-1].passes == pytest.approx(made.seen / 24)
    assert made.counts.label_examples == 24 and made.counts.reaction_episodes == 0


def test_replay_waits_for_its_warm_up_and_repeats() -> None:
    task = bind(class_rows(24), tiny())
    memory = Replay(capacity=100, warmup_episodes=12, replay_ratio=3)
    settings = optim(max_batch_episodes=4, batch_tokens=1000)
    made = training(policy_of(tiny(), task), task, dqn(), memory=memory, optim=settings, passes=1.0)
    losses = [p.signals.get("loss") for p in learn(made)]
    assert losses[:2] == [None, None] and None not in losses[2:]
    updates = next(iter(made.optimizer.state_dict()["state"].values()))["step"]
    assert int(updates) == 3 * (len(losses) - 2)


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_are_updates_on_the_same_reactions(epochs: int) -> None:
    task = bind(class_rows(24), tiny())
    algorithm = ppo(samples=2, epochs=epochs)
    explore = Sample(temperature=1.0, top_k=0, top_p=1.0)
    policy = policy_of(tiny(), task, algorithm.reads)
    made = training(policy, task, algorithm, explore=explore, passes=1.0)
    taken = list(learn(made))
    updates = next(iter(made.optimizer.state_dict()["state"].values()))["step"]
    assert int(updates) == epochs * len(taken)
    assert made.counts.reaction_episodes == 2 * 24
    assert ("approx_kl" in taken[0].signals) == (epochs > 1)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_a_mixed_objective_adds_its_part_of_a_supervised_step(micro_batches: int) -> None:
    """Under a constant reward leave-one-out teaches nothing: what is left is lambda times the cross-entropy's step."""
    rows, shown = tagged_rows(24), list(range(8))
    task = bind(rows, tiny())
    settings = optim(micro_batches=micro_batches, max_grad_norm=1e9)
    mixed = training(
        policy_of(tiny(), task),
        task,
        reinforce(),
        explore=Sample(temperature=1.0, top_k=0, top_p=1.0),
        reward=lambda action, mask, batch: mask.float(),
        optim=settings,
        labelled=BatchSampler(shown, task.cost(shown), batch_tokens=10_000, most=8, seed=1),
        label_coefficient=0.25,
    )
    alone = training(
        policy_of(tiny(), task), task, supervised(), ids=shown, optim=optim(batch_tokens=10_000, max_grad_norm=1e9)
    )
    start = weights(mixed.policy)
    plain_gradient_steps(mixed, 0.4)
    plain_gradient_steps(alone, 0.1)
    signals, step = next(learn(mixed)).signals, next(learn(alone)).signals
    assert largest_difference(weights(mixed.policy), weights(alone.policy)) < 1e-6
    assert largest_difference(weights(mixed.policy), start) > 1e-3
    assert signals["cross_entropy"] == pytest.approx(step["loss"], rel=1e-5)
    assert signals["loss"] == pytest.approx(0.25 * step["loss"], rel=1e-5)
    assert mixed.counts.label_examples == 0, "the warm start has counted them"


@pytest.mark.parametrize("steps", [0, 2])
def test_inputs_are_built_once_for_acting_and_once_for_what_comes_late(steps: int) -> None:
    task = bind(tagged_rows(24), tiny())
    explore = LinUcb(alpha=0.3, regression=LinearRewards(ridge=1.0, refresh_batches=0, window_episodes=1))
    made = training(
        policy_of(tiny(), task),
        task,
        dqn(),
        explore=explore,
        feedback=Delayed(steps=steps, random_steps=0),
        optim=optim(max_batch_episodes=4),
    )
    built, collate = [], task.collate
    task.collate = lambda ids: built.append(ids) or collate(ids)
    signals = [progress.signals for progress in islice(learn(made), 5)]
    assert ["loss" in some for some in signals] == [step >= steps for step in range(5)]
    assert len(built) == (5 + 3 if steps else 5)


def test_a_step_whose_reward_cannot_be_had_is_undone() -> None:
    """A server that goes down: nothing is lost, and once it is back the step is taken as if it had never been away."""

    def run(down_at: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        task = bind(dialogue_rows(24), tiny())
        explore = Sample(temperature=1.0, top_k=0, top_p=1.0)
        algorithm = reinforce(samples=2, gamma=1.0, kl_coefficient=0.1, kl_target=0.5)
        states: list[dict[str, Any]] = []
        calls = 0

        def answer(given: dict[str, Any]) -> tuple[int, str]:
            nonlocal calls
            calls += 1
            return (500, "") if calls == down_at else agreeing(given)

        with serving(answer) as (url, _):
            reward = Http(url=url, timeout_seconds=5.0, retries=0, pause_seconds=0.0, contract="alone")
            made = training(policy_of(tiny(), task), task, algorithm, explore=explore, reward=reward)
            while made.done < 1:
                try:
                    for _ in learn(made):
                        states.append(deepcopy(made.state_dict()) if down_at and len(states) == down_at - 2 else {})
                except RewardFailure as problem:
                    assert "status 500" in str(problem) and down_at is not None
                    assert differences(states[down_at - 2], made.state_dict()) == []
        return made.state_dict(), states

    assert differences(run(None)[0], run(3)[0]) == []


def test_a_price_of_the_kl_that_moves_is_logged() -> None:
    task = bind(class_rows(24), tiny())
    explore = Sample(temperature=1.0, top_k=0, top_p=1.0)
    algorithm = reinforce(samples=2, kl_coefficient=0.5, kl_target=3.0, kl_rate=0.5)
    signals = next(learn(training(policy_of(tiny(), task), task, algorithm, explore=explore))).signals
    assert signals["kl_coefficient"] == pytest.approx(0.45), "at the reference, far below the target: 10 % cheaper"


def test_moving_averages_are_logged() -> None:
    task = bind(class_rows(24), tiny())
    explore = Sample(temperature=1.0, top_k=0, top_p=1.0)
    signals = next(learn(training(policy_of(tiny(), task), task, reinforce(samples=2), explore=explore))).signals
    assert signals["break_even"] == pytest.approx(
        1 + signals["return_variance"] / max(signals["return_square"], 1e-6), rel=1e-5
    )


def test_rl_acts_and_learns_without_dropout_and_supervised_with() -> None:
    for algorithm, expected in ((dqn(), False), (supervised(), True)):
        task = bind(tagged_rows(24), tiny(dropout=0.5))
        made = training(policy_of(tiny(dropout=0.5), task), task, algorithm)
        next(learn(made))
        assert made.policy.training is expected


def test_warm_copies_are_made_only_where_they_are_read() -> None:
    task = bind(tagged_rows(24), tiny())
    assert training(policy_of(tiny(), task), task, dqn()).reference is None
    made = training(
        policy_of(tiny(), task),
        task,
        reinforce(kl_coefficient=0.1),
        explore=Sample(temperature=1.0, top_k=0, top_p=1.0),
    )
    assert made.reference is not None
    before = {name: weight.clone() for name, weight in made.reference.weights.items()}
    kl = [p.signals["kl"] for p in learn(made)]
    assert kl[0] < 1e-6 < kl[-1], "it starts at the reference and leaves it"
    assert differences(before, made.reference.weights) == []


def test_fold() -> None:
    # the greedy episode of 4 steps onto samples of 2 and 3 steps: what lies beyond goes to the last
    mask = torch.tensor([[True, True, False], [True, True, True]])
    found = fold(torch.tensor([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 4.0, 8.0]]), mask)
    assert found.tolist() == [[1.0, 14.0, 0.0], [1.0, 2.0, 12.0]]


# -- learning ------------------------------------------------------------------------------------------------------


def measured(made: Training, ids: list[int]) -> dict[str, float]:
    evaluator = Evaluator(
        task=made.task,
        device=torch.device("cpu"),
        autocast=made.accelerator.autocast,
        batch_tokens=2000,
        resamples=1,
        seed=1,
    )
    found = evaluator.evaluate(made.policy, ids, made.judge.reward).metrics
    return {name: metric["value"] for name, metric in found.items()}


def trained(made: Training, until: float, name: str) -> float:
    """The metric on the training examples, after each pass, until it is reached or the budget is spent."""
    best = 0.0
    for progress in learn(made):
        if progress.pass_ended or progress.done == 1.0:
            best = max(best, measured(made, list(range(len(made.sampler))))[name])
            if best >= until:
                break
    return best


QUICK: dict[str, Any] = {"lr": 3e-3, "head_lr": 1e-2, "batch_tokens": 1000, "max_batch_episodes": 8}


@pytest.mark.parametrize("model", [tiny, lstm], ids=["bert", "lstm"])
def test_supervised_learns_eight_sentences_by_heart(model: Any) -> None:
    rows = tagged_rows(8, seed=8)
    task = bind(rows, model())
    made = training(policy_of(model(), task), task, supervised(), count=8, passes=60.0, optim=optim(**QUICK))
    assert trained(made, 1.0, "f1") == 1.0


def test_supervised_learns_replies_by_heart() -> None:
    rows = dialogue_rows(4, seed=2)
    task = bind(rows, tiny())
    settings = optim(**(QUICK | {"lr": 1e-2}))
    made = training(policy_of(tiny(), task), task, supervised(), count=4, passes=150.0, optim=settings, reward=_zero)
    assert trained(made, 1.0, "rouge_l") == 1.0


def _zero(action: Tensor, mask: Tensor, batch: Any) -> Tensor:
    return torch.zeros(action.shape)


def exploring(start: float = 0.5) -> EpsilonGreedy:
    return EpsilonGreedy(start=start, end=0.0, decay_fraction=0.7, schedule="linear")


RECIPES: dict[str, Any] = {
    "dqn": lambda: (
        dqn(),
        {"explore": exploring(), "memory": Replay(capacity=500, warmup_episodes=16, replay_ratio=2)},
    ),
    "dqn_latest": lambda: (dqn(), {"explore": exploring(), "memory": Latest()}),
    "dqn_bootstrapped": lambda: (
        dqn(gamma=0.3, loss_kind="huber", dueling=True, target_tau=0.1),
        {"explore": exploring(), "memory": Replay(capacity=500, warmup_episodes=16, replay_ratio=2)},
    ),
    "reinforce": lambda: (reinforce(), {"explore": Sample(temperature=1.0, top_k=0, top_p=1.0)}),
    "self_critical": lambda: (
        reinforce(samples=2, baseline="self_critical"),
        {"explore": Sample(temperature=1.0, top_k=0, top_p=1.0)},
    ),
}


def four_classes() -> list[Row]:
    return [row for row in class_rows(80, seed=9) if row["label"] in list(LABELS)[:4]][:24]


def slow(name: str, decisions: str) -> Any:
    return pytest.param(name, decisions, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "decisions"),
    [
        ("dqn", "tags"),
        slow("dqn_bootstrapped", "tags"),
        ("reinforce", "tags"),
        slow("dqn_latest", "tags"),
        slow("self_critical", "tags"),
        ("dqn", "classes"),
        ("reinforce", "classes"),
        slow("dqn_bootstrapped", "classes"),
        slow("self_critical", "classes"),
        slow("dqn_latest", "classes"),
    ],
)
def test_reactions_alone_lead_to_the_optimum(name: str, decisions: str) -> None:
    """Every word (or text) has one right tag; nothing but right or wrong is ever said."""
    mine = tagged_rows(24, seed=9) if decisions == "tags" else four_classes()
    algorithm, parts = RECIPES[name]()
    task = bind(mine, tiny())
    policy = policy_of(tiny(), task, algorithm.reads)
    made = training(policy, task, algorithm, passes=60.0, optim=optim(**QUICK), **parts)
    metric = "f1" if decisions == "tags" else "accuracy"
    assert trained(made, 1.0, metric) == 1.0
    assert made.counts.label_examples == made.counts.label_decisions == 0


@pytest.mark.slow
def test_reinforce_climbs_sentence_f1() -> None:
    """One number for a whole sentence, gamma 1: needs credit across words."""
    task = bind(tagged_rows(16, seed=9, longest=4), tiny())
    algorithm = reinforce(samples=8, credit="episode", gamma=1.0, entropy_coefficient=0.01)
    made = training(
        policy_of(tiny(), task),
        task,
        algorithm,
        count=16,
        passes=150.0,
        optim=optim(**QUICK),
        explore=Sample(temperature=1.0, top_k=0, top_p=1.0),
        reward=SentenceF1(),
    )
    before = measured(made, list(range(16)))["f1"]
    assert before < 0.5
    assert trained(made, 0.9, "f1") >= 0.9


def test_a_constant_reward_teaches_nothing() -> None:
    """The control of METHODS 3: under leave-one-out a constant reward is no update at all."""
    task = bind(tagged_rows(24), tiny())
    policy = policy_of(tiny(), task)
    before = weights(policy)
    made = training(
        policy,
        task,
        reinforce(),
        explore=Sample(temperature=1.0, top_k=0, top_p=1.0),
        optim=optim(weight_decay=0.0),
        reward=lambda action, mask, batch: mask.float(),
    )
    taken = list(islice(learn(made), 3))
    assert len(taken) == 3 and taken[0].signals["zero_advantage"] == 1.0
    assert differences(before, weights(policy)) == []
