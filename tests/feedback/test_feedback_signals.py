"""What each feedback says, by hand, and that its noise is what it claims to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.episode import Trajectory, blank
from rlft_cli.errors import UsageError
from rlft_cli.feedback import Signal
from rlft_cli.feedback.bandit import Bandit
from rlft_cli.feedback.count import Count
from rlft_cli.feedback.delayed import Delayed
from rlft_cli.feedback.logged import Logged
from rlft_cli.feedback.noisy import Noisy
from rlft_cli.feedback.sentence import Sentence
from rlft_cli.feedback.span import Span
from rlft_cli.reactions import Counts, OnTheWay
from rlft_cli.reward import Batch
from rlft_cli.ring import DECISION

TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def batch_of(predictions: list[str], references: list[str] | None = None) -> tuple[Trajectory, Batch]:
    """Episodes of tags, as words in a text, and what a reward may see of them."""
    tags = [text.split() for text in predictions]
    width = max(map(len, tags))
    action = torch.tensor([[TAGS.index(t) for t in row] + [0] * (width - len(row)) for row in tags])
    mask = torch.tensor([[t < len(row) for t in range(width)] for row in tags])
    gold = [text.split() for text in (references or predictions)]
    batch = Batch(references=gold, predictions=tags, labels=TAGS)
    return blank({"id": torch.arange(len(tags))}, action, mask), batch


def tell(feedback: Any, reward: Tensor, trajectory: Trajectory, batch: Batch, seed: int = 1) -> Signal:
    signal: Signal = feedback(reward, trajectory, batch, torch.Generator().manual_seed(seed))
    assert not (signal.observed & ~trajectory.mask).any()
    assert (signal.reward[~signal.observed] == 0).all()
    return signal


def told(feedback: Any, prediction: str, reference: str) -> list[float | None]:
    """Rewards of one sentence, None where nothing was said."""
    trajectory, batch = batch_of([prediction], [reference])
    signal = tell(feedback, torch.full(trajectory.mask.shape, torch.nan), trajectory, batch)
    return [
        r if seen else None
        for r, seen in zip(signal.reward[0].tolist(), signal.observed[0].tolist(), strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O O", [1, 1, None, -0.5]),  # one right, one wrong
        ("B-PER O O", "B-PER I-PER O", [-0.5, None, None]),  # too short
        ("B-PER I-PER O", "B-LOC I-LOC O", [-0.5, -0.5, None]),  # of another type
        ("O O O", "B-PER I-PER O", [None, None, None]),  # nobody tells of a miss
        ("B-PER B-PER O", "B-PER B-PER O", [1, 1, None]),  # neighbours are two
    ],
)
def test_span_tells_of_predicted_entities_alone(prediction: str, reference: str, expected: list[float | None]) -> None:
    assert told(Span(rejected=-0.5), prediction, reference) == expected


def test_span_costs_one_reaction_an_entity() -> None:
    trajectory, batch = batch_of(["B-PER I-PER B-LOC", "O O", "B-LOC"], ["O O O", "O B-PER", "B-LOC"])
    signal = tell(Span(rejected=0.0), torch.zeros(3, 3), trajectory, batch)
    assert signal.reactions.tolist() == [2, 0, 1]
    counts = Counts()
    counts.add(signal)
    assert (counts.reactions, counts.reaction_episodes, counts.reaction_decisions) == (3, 2, 4)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("B-PER O B-PER O", "O B-LOC B-PER I-PER", [0.5, 0.5, 0.5, 0.5]),  # one PER of two can be right at most
        ("B-PER O", "O B-PER", [1, 0.5]),  # the count is right, whichever word it is
        ("B-PER O B-LOC", "B-PER B-PER O", [1, 0.5, 0]),
        ("O O O", "O O O", [0.5, 0.5, 0.5]),
        ("B-PER O O", "O O O", [0, 0.5, 0.5]),
        ("O", "B-PER", [0.5]),
        ("B-PER", "B-LOC", [0]),
        ("B-PER I-PER O", "O O B-PER", [1, 0.5, 0.5]),  # long entities are not paid more
    ],
)
def test_count_pays_what_the_counts_allow(prediction: str, reference: str, expected: list[float]) -> None:
    assert told(Count(), prediction, reference) == expected


def test_sentence_tells_one_number_at_the_end() -> None:
    trajectory, batch = batch_of(["O O O", "O"])
    reward = torch.tensor([[1.0, 0.5, 0.0], [1.0, torch.nan, torch.nan]])
    signal = tell(Sentence(), reward, trajectory, batch)
    assert signal.reward.tolist() == [[0, 0, 1.5], [1, 0, 0]]
    assert signal.reactions.tolist() == [1, 1] and signal.observed.equal(trajectory.mask)


def test_bandit_and_logged_count_decisions_and_replies() -> None:
    trajectory, batch = batch_of(["O O O", "O"])
    reward = torch.ones(2, 3)
    assert tell(Bandit(), reward, trajectory, batch).reactions.tolist() == [3, 1]
    replies = Batch(references=["a", "b"], predictions=["a", "b"], labels=[], whole=True)
    assert tell(Bandit(), reward, trajectory, replies).reactions.tolist() == [1, 1]
    seen = Trajectory(**{**vars(trajectory), "observed": torch.tensor([[True, False, True], [False] * 3])})
    assert tell(Logged(log="x"), reward, seen, batch).reactions.tolist() == [2, 0]


# -- noise -----------------------------------------------------------------------------------------------------------


def noisy(**changes: Any) -> Noisy:
    settings: dict[str, Any] = {
        "flip_zero": 0.0,
        "flip_one": 0.0,
        "gaussian": 0.0,
        "missing": 0.0,
        "correct": False,
        "unit": "decision",
    }
    return Noisy(**(settings | changes))


def many(reward: float, feedback: Noisy, count: int = 20_000) -> Signal:
    """The same reward shown many times: [count, 2], the second decision of reward 0."""
    trajectory, batch = batch_of(["O O"] * count)
    return tell(feedback, torch.tensor([[reward, 0.0]]).expand(count, 2), trajectory, batch)


def near(values: Tensor, expected: float) -> bool:
    """Within 5 standard errors of what it should be; the seed is fixed."""
    return abs(float(values.mean()) - expected) < 5 * float(values.std()) / len(values) ** 0.5


def test_flips_have_their_rates_and_the_correction_takes_them_out() -> None:
    """E r' = r (1 - e1) + (1 - r) e0; E r^ = r (Natarajan et al. 2013, lemma 1)."""
    shown = many(1.0, noisy(flip_zero=0.1, flip_one=0.3)).reward
    assert near(shown[:, 0], 0.7) and near(shown[:, 1], 0.1)
    corrected = many(1.0, noisy(flip_zero=0.1, flip_one=0.3, correct=True)).reward
    assert near(corrected[:, 0], 1.0) and near(corrected[:, 1], 0.0)
    assert sorted(set(corrected.flatten().tolist())) == pytest.approx([-0.1 / 0.6, 0.9 / 0.6])
    assert not near(shown[:, 0], 1.0), "the twin without correction must fail"


def test_symmetric_flips_of_a_number_in_between_are_corrected_too() -> None:
    corrected = many(0.2, noisy(flip_zero=0.25, flip_one=0.25, correct=True)).reward
    assert near(corrected[:, 0], 0.2)


def test_gaussian_noise_and_missing_rewards() -> None:
    signal = many(0.5, noisy(gaussian=0.3, missing=0.4))
    here = signal.reward[:, 0][signal.observed[:, 0]]
    assert near(here, 0.5) and float(here.std()) == pytest.approx(0.3, rel=0.05)
    assert near(signal.observed.float().flatten(), 0.6)
    assert signal.reactions.equal(signal.observed.sum(1)), "missing ones are not counted"


def test_noise_on_whole_episodes() -> None:
    signal = many(1.0, noisy(flip_zero=0.2, flip_one=0.2, missing=0.5, unit="episode"))
    assert (signal.reward[:, 0] == 0).all() and signal.observed[:, 0].equal(signal.observed[:, 1])
    assert near(signal.reward[:, 1][signal.observed[:, 1]], 0.8)
    assert signal.reactions.equal(signal.observed[:, 0].long())


def test_noise_does_not_depend_on_the_reward() -> None:
    """Chance is drawn alike for any reward, so that what is hidden cannot be read from the generator's state."""
    trajectory, batch = batch_of(["O O O"])
    states = []
    for reward in (torch.zeros(1, 3), torch.ones(1, 3)):
        generator = torch.Generator().manual_seed(1)
        noisy(flip_zero=0.2, flip_one=0.2, missing=0.1)(reward, trajectory, batch, generator)
        states.append(generator.get_state())
    assert states[0].equal(states[1])


@pytest.mark.parametrize(
    ("changes", "reward", "part"),
    [
        ({"flip_zero": 0.2, "flip_one": 0.2}, -1.0, "flips rewards in [0, 1], but there is one of -1"),
        ({"flip_zero": 0.2, "flip_one": 0.1}, 0.2, "needs rewards of 0 and 1 only"),
    ],
)
def test_rewards_that_cannot_be_flipped_are_refused(changes: dict[str, float], reward: float, part: str) -> None:
    with pytest.raises(UsageError, match=part.replace("[", r"\[")):
        many(reward, noisy(**changes), 4)


def test_rates_that_hide_everything_cannot_be_corrected() -> None:
    with pytest.raises(UsageError, match="add up to 1 or more"):
        noisy(flip_zero=0.5, flip_one=0.5, correct=True)


# -- delays ----------------------------------------------------------------------------------------------------------


def arrivals(feedback: Delayed, steps: int) -> list[tuple[int, int]]:
    """(step of the action, step of its arrival) of one episode acted at each step, until nothing waits."""
    way, generator, found = OnTheWay(), torch.Generator().manual_seed(1), []
    for step in range(steps + 100):
        if step < steps:
            trajectory, batch = batch_of(["O B-PER"])
            trajectory = Trajectory(**{**vars(trajectory), "observation": {"id": torch.tensor([step])}})
            way.add(trajectory, feedback(torch.ones(1, 2), trajectory, batch, generator), [4], step)
        arrived = way.take(step)
        if arrived is not None:
            assert arrived[0].action.tolist() == [[0, 3]] * len(arrived[2])
            found += [(int(i), step) for i in arrived[0].observation["id"]]
    assert len(way) == 0 and len(found) == steps
    return found


def test_delayed_rewards_arrive_in_order_after_their_steps() -> None:
    assert arrivals(Delayed(steps=3, random_steps=0), 10) == [(n, n + 3) for n in range(10)]


def test_random_delays_stay_in_their_range_and_change_the_order() -> None:
    found = arrivals(Delayed(steps=2, random_steps=4), 200)
    delays = [there - acted for acted, there in found]
    assert set(delays) == {2, 3, 4, 5, 6}
    assert [acted for acted, _ in found] != sorted(acted for acted, _ in found)


def test_what_waits_is_kept_by_a_state() -> None:
    way = OnTheWay()
    trajectory, batch = batch_of(["O B-PER I-PER", "B-LOC"])
    signal = Delayed(steps=5, random_steps=3)(torch.rand(2, 3), trajectory, batch, torch.Generator().manual_seed(2))
    told_of = Trajectory(**{**vars(trajectory), "reward": signal.reward, "observed": signal.observed})
    way.add(told_of, signal, [3, 1], 0)
    again = OnTheWay()
    again.load_state_dict(way.state_dict())
    assert set(DECISION.names or ()) < way.state_dict().keys()
    one, other = way.take(99), again.take(99)
    assert one is not None and other is not None
    assert one[0].reward.equal(signal.reward) and one[0].reward.equal(other[0].reward)
    assert one[1].reactions.tolist() == other[1].reactions.tolist() == [3, 1] and one[2] == other[2] == [3, 1]
    assert OnTheWay().take(0) is None
    OnTheWay().load_state_dict(OnTheWay().state_dict())


def test_several_episodes_of_an_example_cannot_be_late() -> None:
    trajectory, batch = batch_of(["O", "O"])
    several = Trajectory(**{**vars(trajectory), "observation": {"id": torch.tensor([0])}})
    signal = Delayed(steps=1, random_steps=0)(torch.ones(2, 1), several, batch, torch.Generator())
    with pytest.raises(UsageError, match=r"algo\.samples is 2"):
        OnTheWay().add(several, signal, [1], 0)
