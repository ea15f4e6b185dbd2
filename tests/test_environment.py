"""The Gymnasium view of tagging: Gymnasium's own checks, the same rewards as rlft's, illegal tags, errors."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model.words import legal_transitions
from rlft_cli.oracles.toys.tagging import sentence
from rlft_cli.reward import Batch
from rlft_cli.reward.exact_span import ExactSpan
from rlft_cli.reward.f1_delta import F1Delta
from rlft_cli.reward.sentence_f1 import SentenceF1
from rlft_cli.reward.token_accuracy import TokenAccuracy

gymnasium = pytest.importorskip("gymnasium", reason="Gymnasium is in the extra gym: pip install 'rlft[gym]'")

TAGS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
ROWS: list[dict[str, Any]] = [
    {"words": ["Anna", "Smith", "sees", "Rome"], "tags": ["B-X", "I-X", "O", "B-Y"]},
    {"words": ["Rome", "sees"], "tags": ["B-Y", "O"]},
]
ACCURACY = TokenAccuracy(outside_weight=0.5)


def environment(reward: Any = ACCURACY, rows: list[dict[str, Any]] = ROWS, labels: list[str] = TAGS) -> Any:
    from rlft_cli.environment import TaggingEnvironment

    return TaggingEnvironment(rows, labels=labels, reward=reward)


def played(made: Any, number: int, actions: list[int]) -> list[float]:
    """Rewards of a sentence, which must end with its last word."""
    made.reset(options={"sentence": number})
    steps = [made.step(action) for action in actions]
    assert [step[2] for step in steps] == [False] * (len(actions) - 1) + [True]
    assert not any(step[3] for step in steps)
    return [step[1] for step in steps]


def test_gymnasium_finds_nothing_wrong(recwarn: pytest.WarningsRecorder) -> None:
    from gymnasium.utils.env_checker import check_env

    check_env(environment(), skip_render_check=True)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize(
    ("reward", "by_step"),
    [
        (ACCURACY, True),
        (F1Delta(), True),
        (SentenceF1(), True),
        (ExactSpan(miss_penalty=0.5, credit="close"), False),  # pays before the next tag says that an entity is closed
        (ExactSpan(miss_penalty=0.5, credit="spread"), False),
    ],
)
def test_a_sequence_earns_what_rlft_pays(reward: Any, by_step: bool) -> None:
    every = sentence().action[::3]  # 51 of the 153 legal sequences over these tags
    names = [[TAGS[a] for a in row] for row in every.tolist()]
    batch = Batch(references=[ROWS[0]["tags"]] * len(every), predictions=names, labels=TAGS)
    right = reward(every, torch.ones_like(every, dtype=torch.bool), batch).double()
    made = environment(reward)
    found = torch.tensor([played(made, 0, row) for row in every.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found.sum(1), right.sum(1), rtol=0, atol=1e-6)
    assert torch.allclose(found, right, atol=1e-6) == by_step


def test_an_observation_is_the_sentence_and_the_tags_so_far() -> None:
    made = environment()
    begin, told = made.reset(options={"sentence": 1})
    assert begin["words"].tolist() == [2, 4, 0, 0]  # Anna 1, Rome 2, Smith 3, sees 4
    assert begin["tags"].tolist() == [0, 0, 0, 0]
    assert told["action_mask"].tolist() == [1, 1, 0, 1, 0]
    after, _, _, _, told = made.step(3)
    assert after["tags"].tolist() == [4, 0, 0, 0]
    assert told["action_mask"].tolist() == [1, 1, 0, 1, 1]
    assert begin["tags"].tolist() == [0, 0, 0, 0], "an earlier observation must not move"


def test_an_illegal_tag_is_taken_for_the_first_of_its_type() -> None:
    made, legal = environment(F1Delta()), legal_transitions(TAGS)
    for first in range(len(TAGS)):
        for second in range(len(TAGS)):
            one = first if legal[-1, first] else first - 1
            two = second if legal[one, second] else second - 1
            assert played(made, 1, [first, second]) == played(made, 1, [one, two])


def test_sentences_come_by_chance_and_by_seed() -> None:
    made = environment()
    drawn = [int((made.reset(seed=seed)[0]["words"] > 0).sum()) for seed in range(20)]
    assert set(drawn) == {2, 4}
    assert drawn == [int((made.reset(seed=seed)[0]["words"] > 0).sum()) for seed in range(20)]


def test_steps_beyond_the_end_and_bad_sentences_are_refused() -> None:
    made = environment()
    with pytest.raises(UsageError, match="call reset"):
        made.step(0)
    played(made, 1, [0, 0])
    with pytest.raises(UsageError, match="call reset"):
        made.step(0)
    for number in (2, -1, "a"):
        with pytest.raises(UsageError, match="whole number from 0 to 1"):
            made.reset(options={"sentence": number})
    for rows in ([], [{"words": [], "tags": []}], [ROWS[0], {"words": ["a"], "tags": []}]):
        with pytest.raises(UsageError, match="as many 'tags'"):
            environment(rows=rows)
    for labels in (["B-X", "I-X"], ["O", "I-X"]):
        with pytest.raises(UsageError, match=r"the labels lack (O|B-X)"):
            environment(labels=labels)


def test_without_gymnasium_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rlft_cli.environment", raising=False)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(RlftError, match=r"pip install 'rlft\[gym\]'"):
        import rlft_cli.environment  # noqa: F401
