"""Goal-oriented dialogue: users who keep to their goals, a noisy channel as documented, ends, rewards, the optimum, the laws."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlft_cli.data.goals import goals
from rlft_cli.data.table import Table
from rlft_cli.episode import demonstrate, rollout
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.evaluation import Evaluator
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.greedy import Greedy
from rlft_cli.explore.sample import Sample
from rlft_cli.learner import Training, learn
from rlft_cli.memory.replay import Replay
from rlft_cli.metrics.goals import score_goals
from rlft_cli.model.mlp import Mlp, NoText
from rlft_cli.returns import action_log_prob
from rlft_cli.reward import Batch
from rlft_cli.reward.task_success import TaskSuccess
from rlft_cli.task import listening
from rlft_cli.task.agenda import Move
from rlft_cli.task.goal_dialogue import GoalDialogue, GoalDialogueTask
from rlft_cli.task.goals import ANY, EMPTY
from toy_training import (
    differences,
    dqn,
    largest_difference,
    optim,
    policy_of,
    reinforce,
    supervised,
    training,
    weights,
)

PLAIN: dict[str, Any] = {  # users who are understood, patient and content
    "users_per_goal": 1,
    "user_seed": 0,
    "max_turns": 12,
    "error_rate": 0.0,
    "volunteer": 0.0,
    "unavailable": 0.0,
    "change": 0.0,
    "patience_min": 50,
    "patience_max": 50,
    "rule_confirm_below": 0.4,
    "rule_requests": 9,
}
HARD = {"error_rate": 0.25, "volunteer": 0.3, "unavailable": 0.3, "change": 0.3, "patience_min": 6, "patience_max": 12}
REWARD = TaskSuccess(success=1.0, failure=-0.5, turn_cost=0.02)
MLP = Mlp(hidden_width=16, layers=1, head_width=16, dropout=0.0)
SAMPLING = Sample(temperature=1.0, top_k=0, top_p=1.0)
VALUES = {"area": "north south east", "food": "thai greek", "price": "low high mid", "day": "today tomorrow"}


def row(origin: str = "train.jsonl:1", requests: str = "", **constraints: str) -> dict[str, Any]:
    wanted = [{"slot": slot, "value": value} for slot, value in constraints.items()]
    return {"constraints": wanted, "requests": requests.split(), "origin": origin}


def many(count: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        names = random.permutation(list(VALUES))[: random.integers(1, 5)]
        wanted = {str(name): str(random.choice(VALUES[name].split())) for name in names}
        asked = " ".join(name for name in ("phone", "address") if random.random() < 0.5)
        rows.append(row(f"train.jsonl:{n + 1}", asked, **wanted))
    rows[0] = row("train.jsonl:1", "phone address", area="north", food="thai", price="low", day="today")
    return rows


def bound(rows: list[dict[str, Any]], **changes: Any) -> GoalDialogueTask:
    settings = GoalDialogue(**(PLAIN | changes))
    task = settings.build(settings.fit(rows), NoText())
    task.add(rows)
    return task


def surer(task: GoalDialogueTask) -> GoalDialogueTask:
    """What is told later is heard with more trust, and so is believed."""
    assert task._users is not None
    task._users.chance[:, :, 8] = np.linspace(0.1, 0.9, task._users.chance.shape[1])
    return task


def talk(task: GoalDialogueTask, *acts: str, user: int = 0) -> tuple[Any, dict[str, Any], float]:
    """The state after some acts, the outcome, and what the dialogue was paid."""
    action = torch.tensor([[task.labels.index(act) for act in acts]])
    state = task.reset(task.collate([user]), 1)
    for t in range(len(acts)):
        state = task.step(state, action[:, t])
    if not bool(state.done):
        return state, {}, 0.0
    mask = torch.ones_like(action, dtype=torch.bool)
    (outcome,) = task.decode(action, mask, [user])
    batch = Batch(references=[outcome], predictions=[outcome], labels=task.labels)
    return state, outcome, float(REWARD(action, mask, batch).sum())


def said(state: Any) -> tuple[int, int]:
    return int(state.world.agenda.said.move[0]), int(state.world.agenda.said.first[0])


def walk(task: GoalDialogueTask, ids: list[int], samples: int = 1, seed: int = 0) -> Any:
    """A random policy with these users."""
    policy = policy_of(MLP, task)
    return policy, rollout(
        policy,  # type: ignore[arg-type]
        task,
        task.collate(ids),
        SAMPLING,
        samples=samples,
        progress=0.0,
        generator=torch.Generator().manual_seed(seed),
        values=lambda scores: scores,
    )


# -- the user ------------------------------------------------------------------------------------------------------


def test_a_dialogue_by_hand() -> None:
    """One slot is told at once; offer, answer, close: 1 - 3 x .02. Closing before the answer fails: -.5 - 2 x .02."""
    task = bound([row(requests="phone", area="north")])
    assert task.labels == ["request(area)", "confirm(area)", "answer(phone)", "offer()", "repeat()", "close()"]
    state, _, _ = talk(task, "offer()")
    assert said(state) == (Move.REQUEST, -1)
    state, _, _ = talk(task, "offer()", "answer(phone)")
    assert said(state) == (Move.DONE, -1)
    _, outcome, paid = talk(task, "offer()", "answer(phone)", "close()")
    assert outcome == {"user": 0, "success": True, "turns": 3, "ended": "closed", "acts": [3, 2, 5]}
    assert paid == pytest.approx(0.94)
    _, outcome, paid = talk(task, "offer()", "close()")
    assert not outcome["success"] and paid == pytest.approx(-0.54)


def test_a_user_answers_what_is_asked() -> None:
    task = bound([row(area="north", food="thai"), row("train.jsonl:2", food="greek", price="low")])
    state, _, _ = talk(task, "request(food)")
    assert said(state) == (Move.NONE, task.acts.slots.index("food"))
    state, _, _ = talk(task, "confirm(area)")
    assert said(state) == (Move.AFFIRM, -1)
    state, _, _ = talk(task, "request(price)")  # which this user does not care about
    assert state.world.mind.belief[0, task.acts.slots.index("price")] == ANY


def test_what_is_not_to_be_had_or_no_longer_wanted_is_replaced() -> None:
    scarce = surer(bound([row(area="north"), row("train.jsonl:2", area="south")], unavailable=1.0))
    state, _, _ = talk(scarce, "offer()")
    assert state.world.offer.nothing.item() and said(state) == (Move.NONE, 0)
    assert talk(scarce, "offer()", "offer()", "close()")[1]["success"]
    fickle = bound([row(area="north"), row("train.jsonl:2", area="south")], change=1.0)
    state, _, _ = talk(fickle, "offer()")
    assert said(state) == (Move.NEGATE, 0)
    assert not talk(fickle, "offer()", "close()")[1]["success"]
    assert talk(fickle, "offer()", "offer()", "close()")[1]["success"]


def test_patience_ends_a_dialogue_and_useless_acts_cost_double() -> None:
    task = bound([row(area="north", food="thai")], patience_min=5, patience_max=5)
    _, outcome, paid = talk(task, "repeat()", "repeat()", "repeat()")
    assert (outcome["ended"], outcome["turns"]) == ("gave_up", 3) and paid == pytest.approx(-0.56)
    assert talk(task, *["request(food)", "request(food)"])[1] == {}  # 1 and 2 turns of 5
    assert talk(task, "request(food)", "request(food)", "request(food)")[1]["ended"] == "gave_up"
    rows = [row(area="north"), row("train.jsonl:2", "phone", area="south")]
    for again in ("offer()", "answer(phone)"):  # the same offer, and what was not asked for: 1, 2 and 2 turns
        assert talk(bound(rows, patience_min=6, patience_max=6), "offer()", again, again)[1] == {}
        assert talk(bound(rows, patience_min=5, patience_max=5), "offer()", again, again)[1]["ended"] == "gave_up"
    _, outcome, _ = talk(bound([row(area="north")], max_turns=3), "repeat()", "repeat()", "repeat()")
    assert outcome["ended"] == "too_long"


@pytest.mark.parametrize("error_rate", [0.0, 0.25])
def test_users_tell_what_they_want_and_nothing_else(error_rate: float) -> None:
    rows = many(60)
    task = bound(rows, **(HARD | {"error_rate": error_rate, "max_turns": 15}))
    ids = list(range(60))
    _, done = walk(task, ids, seed=1)
    assert done.mask.sum(1).max() <= 15 and not bool(done.truncated.any())
    world = task._begin(task._users.take(np.arange(60)))  # type: ignore[union-attr]
    wanted = np.array([[slot in [one["slot"] for one in r["constraints"]] for slot in task.acts.slots] for r in rows])
    wished = np.array([[name in r["requests"] for name in task.acts.properties] for r in rows])
    for t in range(done.action.shape[1]):
        act, new = task.table[done.action[:, t].numpy()], world.mind.belief == EMPTY
        world = task._next(world, done.action[:, t].numpy(), t + 1)
        said = world.agenda.said
        for n in np.flatnonzero(done.mask[:, t].numpy()):
            asked = act[n, 1] if act[n, 0] <= 1 else -1  # request or confirm
            told = {int(slot) for slot in (said.first[n], said.second[n])} - {-1}
            repeats = act[n, 0] == 4
            assert repeats or all(wanted[n, slot] or slot == asked for slot in told)
            assert act[n, 0] != 0 or asked in told  # always answers a request
            assert said.move[n] != Move.REQUEST or wished[n, said.asked[n]]
        if error_rate == 0:
            belief, want = world.mind.belief, world.agenda.want
            heard = world.mind.fresh & new  # what was believed before may be trusted more
            assert (belief[heard] == want[heard]).all()
    assert ((world.mind.belief == EMPTY) | (world.mind.belief == ANY) | wanted | (error_rate > 0)).all()


def test_a_policy_sees_nothing_that_was_not_said() -> None:
    """Two goals that begin alike look alike until the difference is told."""
    rows = [row(area="north", food="thai"), row("train.jsonl:2", area="north", food="greek", price="low")]
    task = bound(rows)
    assert task._users is not None
    task._users.chance[1] = task._users.chance[0]
    state = task.reset(task.collate([0, 1]), 1)
    assert state.seen is not None and torch.equal(state.seen[0], state.seen[1])
    state = task.step(state, torch.tensor([task.labels.index("request(price)")] * 2))
    assert state.seen is not None and not torch.equal(state.seen[0], state.seen[1])


# -- the channel ---------------------------------------------------------------------------------------------------


def test_errors_and_certainty_are_as_documented() -> None:
    """Of 6,000 values a quarter is wrong, half of that lost (5 standard errors: .028, .022); means of c are 2/3 and 1/3."""
    random = np.random.default_rng(0)
    chance = random.random((6000, 4), dtype=np.float32)
    zero, want = np.zeros(6000, dtype=np.int64), np.ones((6000, 1), dtype=np.int64)
    value, sure, there = listening._hear_value(zero, want, want * 3, chance, 0.25)
    wrong = value != 1
    assert wrong.mean() == pytest.approx(0.25, abs=0.028) and (~there).mean() == pytest.approx(0.125, abs=0.022)
    assert set(value[there].tolist()) == {0, 1, 2} and (wrong | there).all()
    assert sure[~wrong].mean() == pytest.approx(2 / 3, abs=0.02) and sure[wrong].mean() == pytest.approx(
        1 / 3, abs=0.03
    )


def test_beliefs_by_hand() -> None:
    """.6 and .5 for the same value: 1 - .4 x .5 = .8; then another one with .3: .8 x .7 = .56; beside a "no" it is taken."""
    task = bound([row(area="north"), row("train.jsonl:2", area="south")], error_rate=0.0)
    users = task._users.take(np.array([0]))  # type: ignore[union-attr]
    world = task._begin(users)

    def told(mind: Any, value: int, sure: float, move: int = Move.NONE) -> Any:
        users.chance[0, 1, 8] = sure**2  # certainty is its root
        users.chance[0, 1, 4] = 0.81  # of the move: .9
        spoken = world.agenda.said.__class__(
            move=np.array([move]), asked=np.array([0]), first=np.array([0]), second=np.array([-1])
        )
        return listening.hear(mind, spoken, np.array([[value]]), users, np.array([-1]), 1, 0.0)

    mind = told(told(listening.begin(users), 0, 0.6), 0, 0.5)
    assert mind.belief.item() == 0 and mind.trust.item() == pytest.approx(0.8)
    mind = told(mind, 1, 0.3)
    assert mind.belief.item() == 0 and mind.trust.item() == pytest.approx(0.56)
    mind = told(mind, 1, 0.3, Move.NEGATE)
    assert mind.belief.item() == 1 and mind.trust.item() == pytest.approx(0.3)


# -- episodes ------------------------------------------------------------------------------------------------------


def test_an_episode_is_told_again_from_its_acts_in_any_company() -> None:
    task = bound(many(30), **HARD)
    _, done = walk(task, list(range(30)))
    whole = task.decode(done.action, done.mask, list(range(30)))
    assert [one["turns"] for one in whole] == done.mask.sum(1).tolist()
    for n in (3, 17):
        assert task.decode(done.action[n : n + 1], done.mask[n : n + 1], [n]) == [whole[n]]
    again = GoalDialogue(**(PLAIN | HARD)).build(task.labels, NoText())
    again.add(many(30))
    assert again.decode(done.action, done.mask, list(range(30))) == whole


def test_users_of_one_goal_differ_and_a_seed_makes_others() -> None:
    task = bound(many(4), **(HARD | {"users_per_goal": 3}))
    other = bound(many(4), **(HARD | {"users_per_goal": 3, "user_seed": 1}))
    assert task._users is not None and other._users is not None and len(task._users.patience) == 12
    assert not np.array_equal(task._users.chance[0], task._users.chance[1])
    assert not np.array_equal(task._users.chance, other._users.chance)
    assert len(task.ask(many(1))) == 1


def test_the_hand_written_policy_is_the_demonstration() -> None:
    """Asked for what is missing, confirmed what is doubtful, offered, answered, closed."""
    task = bound([row(requests="phone", area="north", food="thai")], rule_confirm_below=0.0)
    known = demonstrate(task, task.collate([0]))
    names = [task.labels[n] for n in known.action[0].tolist()]
    assert names == ["request(food)", "offer()", "answer(phone)", "close()"]
    assert task.references([0])[0]["success"] and known.seen.shape == (1, 4, task.seen_width)
    legal = known.seen[0, :, -len(task.labels) :].bool()
    assert legal[torch.arange(4), known.action[0]].all()
    assert not legal[0, task.labels.index("close()")] and not legal[0, task.labels.index("confirm(food)")]


def test_reports_hold_baselines_and_dialogues() -> None:
    task = bound([row(requests="phone", area="north", food="thai")], rule_confirm_below=0.0)
    details = task.details(task.references([0]), task.references([0]))
    assert details["baselines"]["hand_written"]["success"]["value"] == 1.0
    assert set(details["baselines"]) == {"hand_written", "random"}
    (sample,) = details["samples"]
    assert sample["dialogue"][1:4] == [
        "system: request(food)",
        "user: inform(food=thai) [believed: inform(food=thai) " + sample["dialogue"][2].rsplit(" ", 1)[1],
        "system: offer(area=north, food=thai)",
    ]
    assert sample["dialogue"][-1] == "system: close()"


def test_scores_by_hand() -> None:
    """Successes 1, 0, 1 against 0, 0, 1: .667, gain .333; turns 3, 9, 5: 5.67, of successes (3 + 5) / 2 = 4."""
    now = [
        {"success": True, "turns": 3, "ended": "closed"},
        {"success": False, "turns": 9, "ended": "gave_up"},
        {"success": True, "turns": 5, "ended": "closed"},
    ]
    before = [{**now[0], "success": False, "turns": 4}, now[1], now[2]]
    found = {name: round(one["value"], 3) for name, one in score_goals(now, before, 0, 10).items()}
    assert found == {
        "success": 0.667,
        "turns": 5.667,
        "turns_of_successes": 4.0,
        "booked_wrong": 0.0,
        "gave_up": 0.333,
        "success_gain": 0.333,
        "extra_turns": -0.333,
    }
    assert score_goals(before, before, 0, 10)["booked_wrong"]["value"] == pytest.approx(1 / 3)


# -- the optimum ---------------------------------------------------------------------------------------------------


def best_by_enumeration(task: GoalDialogueTask, user: int, longest: int) -> float:
    """The most that any sequence of up to ``longest`` acts is paid; users who are understood leave nothing to chance."""
    sequences = list(itertools.product(range(len(task.labels)), repeat=longest))
    action = torch.tensor(sequences)
    played, mask, _ = task._play([user] * len(sequences), lambda world, t: action[:, t].numpy())
    outcomes = task.decode(torch.from_numpy(played), torch.from_numpy(mask), [user] * len(sequences))
    batch = Batch(references=outcomes, predictions=outcomes, labels=task.labels)
    return float(REWARD(torch.from_numpy(played), torch.from_numpy(mask), batch).sum(1).max())


def test_the_best_of_all_dialogues() -> None:
    """Offer and close where one slot is wanted, one act more for a request: 1 - 2 x .02 and 1 - 3 x .02."""
    task = bound([row(area="north"), row("train.jsonl:2", "phone", area="south")], max_turns=4)
    assert best_by_enumeration(task, 0, 4) == pytest.approx(0.96)
    assert best_by_enumeration(task, 1, 4) == pytest.approx(0.94)


def test_supervised_training_imitates_the_hand_written_policy() -> None:
    rows = [row(f"train.jsonl:{n}", "phone" if n % 2 else "", area=("north", "south")[n % 2]) for n in range(24)]
    task = bound(rows, max_turns=4)
    made = ready(task, supervised(), passes=8.0, optim=optim(lr=3e-2, head_lr=3e-2))
    before = successes(made)
    for _ in learn(made):
        pass
    assert made.counts.label_examples == 24 and made.counts.reactions == 0
    assert before < 12 and successes(made) == sum(one["success"] for one in task.references(list(range(24)))) == 24


def successes(made: Training) -> int:
    """Dialogues of 24 that the policy as it is leads to their end."""
    evaluator = Evaluator(
        task=made.task,
        device=torch.device("cpu"),
        autocast=made.accelerator.autocast,
        batch_tokens=2000,
        resamples=1,
        seed=1,
    )
    return sum(one["success"] for one in evaluator.predict(made.policy, list(range(24))))


@pytest.mark.slow
def test_dqn_and_reinforce_find_the_best_dialogues() -> None:
    rows = [row(f"train.jsonl:{n}", "phone" if n % 2 else "", area=("north", "south")[n % 2]) for n in range(24)]
    for algorithm, explore in (
        (
            dqn(gamma=1.0, loss_kind="huber", n_step=2, target_tau=0.1),
            EpsilonGreedy(start=1.0, end=0.1, decay_fraction=0.5, schedule="linear"),
        ),
        (reinforce(samples=4, gamma=1.0), SAMPLING),
    ):
        task = bound(rows, max_turns=4)
        made = ready(task, algorithm, explore=explore, passes=150.0, optim=optim(lr=3e-3, head_lr=3e-3))
        for _ in learn(made):
            pass
        done = rollout(
            made.policy,
            task,
            task.collate([0, 1]),
            Greedy(split_ties=False),
            samples=1,
            progress=1.0,
            generator=torch.Generator(),
            values=lambda scores: scores,
        )
        outcomes = task.decode(done.action, done.mask, [0, 1])
        assert [(one["success"], one["turns"]) for one in outcomes] == [(True, 2), (True, 3)], type(algorithm).__name__


# -- the laws ------------------------------------------------------------------------------------------------------


def ready(task: GoalDialogueTask, algorithm: Any, **parts: Any) -> Training:
    policy = policy_of(MLP, task, algorithm.reads)
    return training(policy, task, algorithm, **({"reward": REWARD, "explore": SAMPLING} | parts))


@pytest.mark.parametrize("reads", [frozenset[str](), frozenset({"dueling", "value"}), frozenset({"atoms:5:-1.0:1.0"})])
def test_steps_are_the_forward_pass(reads: frozenset[str]) -> None:
    task = bound(many(20), **HARD)
    policy = policy_of(MLP, task, reads).eval()
    observation = task.collate(list(range(20)))
    done = rollout(
        policy,  # type: ignore[arg-type]
        task,
        observation,
        SAMPLING,
        samples=2,
        progress=0.0,
        generator=torch.Generator().manual_seed(5),
        values=lambda scores: scores,
    )
    with torch.no_grad():
        passed = policy(done.inputs, done.action).scores
    assert (action_log_prob(passed, done.action) - done.log_prob)[done.mask].abs().max() < 1e-5
    assert done.seen.shape == (40, done.action.shape[1], task.seen_width)


def test_the_split_into_micro_batches_does_not_matter() -> None:
    def after(parts: int) -> dict[str, torch.Tensor]:
        task = bound(many(24), **HARD)
        made = ready(task, reinforce(samples=2, gamma=1.0), optim=optim(micro_batches=parts, max_grad_norm=1e9))
        list(islice(learn(made), 2))
        return weights(made.policy)

    assert largest_difference(after(1), after(4)) < 1e-5


@pytest.mark.parametrize(
    "algorithm", [lambda: dqn(gamma=0.9, loss_kind="huber", n_step=3, target_tau=0.1), lambda: reinforce(samples=2)]
)
def test_stopped_and_gone_on_with_equals_never_stopped(algorithm: Callable[[], Any]) -> None:
    def build() -> Training:
        task = bound(many(24), **HARD)
        if algorithm().on_policy:
            return ready(task, algorithm())
        explore = EpsilonGreedy(start=0.8, end=0.1, decay_fraction=1.0, schedule="linear")
        return ready(task, algorithm(), explore=explore, memory=Replay(capacity=30, warmup_episodes=16, replay_ratio=2))

    whole = build()
    list(islice(learn(whole), 4))
    first, second = build(), build()
    list(islice(learn(first), 2))
    second.load_state_dict(first.state_dict())
    list(islice(learn(second), 2))
    assert differences(whole.state_dict(), second.state_dict()) == []


def test_a_user_reacts_once_at_the_end_of_a_dialogue() -> None:
    made = ready(bound(many(24), **HARD), reinforce(samples=2, gamma=1.0))
    list(islice(learn(made), 2))
    counts = made.counts
    assert counts.reactions == counts.reaction_episodes == 2 * made.seen < counts.reaction_decisions


# -- bad input -----------------------------------------------------------------------------------------------------


def table(*rows: dict[str, Any]) -> Table:
    return Table(where="g.jsonl", name="g.jsonl", rows=list(enumerate(rows, start=1)))


NAMES: Any = None  # goals have their own two columns


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"goal": {}}, "no column constraints; found: goal"),
        ({"constraints": ["area"], "requests": []}, "expected an object"),
        ({"constraints": {"area": 3}, "requests": []}, "the slot area has the value 3"),
        ({"constraints": {"area": "north"}, "requests": "phone"}, "expected a list of names"),
        ({"constraints": {"area": "north"}, "requests": ["area"]}, "does not ask for it"),
        ({"constraints": {"a(b": "north"}, "requests": []}, "no name of a slot"),
        ({"constraints": {}, "requests": []}, "the goal has no constraint"),
    ],
)
def test_a_goal_that_cannot_be_is_named_by_its_line(wrong: dict[str, Any], told: str) -> None:
    right = {"constraints": {"area": "north"}, "requests": ["phone"]}
    with pytest.raises(RlftError, match=r"g\.jsonl:2") as refused:
        goals(table(right, wrong), NAMES, False)
    assert told in str(refused.value)


def test_goals_without_constraints_can_be_left_out() -> None:
    found, messages = goals(
        table({"constraints": {}, "requests": []}, {"constraints": {"a": "b"}, "requests": []}), NAMES, True
    )
    assert len(found) == 1 and "goals without a constraint are left out" in messages[0]


def test_a_slot_that_training_did_not_know_and_an_impossible_patience() -> None:
    with pytest.raises(
        RlftError, match=r"test\.jsonl:4: the slot 'food' is not among those of the training goals: area"
    ):
        bound([row(area="north")]).add([row("test.jsonl:4", food="thai")])
    with pytest.raises(UsageError, match="patience_max=3"):
        GoalDialogue(**(PLAIN | {"patience_min": 4, "patience_max": 3}))


def test_a_model_without_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match="no text"):
        NoText().text_ids(["hello"])
    task = bound([row(area="north")])
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(RlftError, match="cannot read the weights"):
        MLP.policy(tmp_path, task, frozenset())
    with pytest.raises(RlftError, match="up to the user"):
        policy_of(MLP, task).table({})  # type: ignore[operator]
