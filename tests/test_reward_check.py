"""The contract of rewards: each breach is found and named, and what keeps it passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.reward import Batch
from rlft_cli.reward_check import check_reward
from toy_rewards import option
from toy_training import bind, dialogue_rows, tiny

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A reward by a function of replies and references."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pay: Callable[[Any, Any], Any]
    contract: str = "reference"

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        paid = self.pay(batch.predictions, batch.references)
        return paid if isinstance(paid, Tensor) else at_last_decision(paid, mask)


def overlap(replies: Any, references: Any) -> list[float]:
    return [float(reply.lower() == reference.lower()) for reply, reference in zip(replies, references, strict=True)]


def negative(replies: Any, references: Any) -> list[float]:
    return [-x for x in overlap(replies, references)]


def by_place(replies: Any, references: Any) -> list[float]:
    return [x + n / len(replies) for n, x in enumerate(overlap(replies, references))]


def over_batch(replies: Any, references: Any) -> list[float]:
    mean = sum(len(reply) for reply in replies) / len(replies)  # a metric of the whole batch
    return [x * mean for x in overlap(replies, references)]


def infinite(replies: Any, references: Any) -> list[float]:
    return [float("inf"), *overlap(replies, references)[1:]]


def checked(reward: Any, count: int = 12, name: str = "mine") -> str | None:
    task = bind(dialogue_rows(count), tiny())
    return check_reward(reward, task, list(range(count)), CPU, name)


@pytest.mark.parametrize(
    ("pay", "message"),
    [
        (
            negative,
            "pays references -1 on average, and replies to other contexts 0: more is to be better; look at its sign",
        ),
        (by_place, "changes with the order of the batch"),
        (over_batch, "changes with the other replies of the batch"),
        (infinite, r"is \[0.*inf\] for the reply"),
        (lambda replies, references: [0.25] * len(replies), "pays 0.25 for each of 24 different replies"),
        (lambda replies, references: torch.zeros(len(replies), 1), r"gives rewards of shape \[24, 1\] for \[24,"),
    ],
    ids=["sign", "order", "batch", "finite", "variance", "shape"],
)
def test_each_breach_has_its_message(pay: Callable[[Any, Any], Any], message: str) -> None:
    with pytest.raises(RlftError, match=rf"^reward=mine breaks the contract of a reward: it {message}"):
        checked(Made(pay=pay))


def context_free(replies: Any, references: Any) -> list[float]:
    return [float(len(reply)) for reply in replies]


def weakly_wrong(replies: Any, references: Any) -> list[float]:
    return [
        length - x for length, x in zip(context_free(replies, references), overlap(replies, references), strict=True)
    ]


@pytest.mark.parametrize("pay", [context_free, weakly_wrong])
def test_what_the_examples_cannot_tell_is_a_warning(pay: Callable[[Any, Any], Any]) -> None:
    """Two means differ by chance in either direction: only what their interval says is refused."""
    doubt = checked(Made(pay=pay))
    assert doubt is not None
    assert doubt.startswith(
        "reward=mine: 12 references and as many replies to other contexts cannot tell whether it pays"
    )
    assert checked(Made(pay=pay, contract="alone")) is None


def test_what_keeps_the_contract_passes() -> None:
    assert checked(Made(pay=overlap)) is None
    for name in ("bleu", "rouge_l", "chrf", "token_f1", "meteor", "weighted_sum", "length", "distinct"):
        checked(option(name, **({"most_words": 3} if name == "length" else {"order": 1} if name == "distinct" else {})))


def test_less_is_asked_of_a_reward_that_says_so() -> None:
    checked(Made(pay=negative, contract="alone"))
    checked(Made(pay=infinite, contract="none"))
    checked(option("constant"))
    checked(option("shuffled"))
    with pytest.raises(RlftError, match="changes with the order"):
        checked(Made(pay=by_place, contract="alone"))


def test_rounding_of_a_model_is_no_breach() -> None:
    noise = torch.Generator().manual_seed(1)

    def rounded(replies: Any, references: Any) -> list[float]:
        return [x + 1e-3 * float(torch.rand(1, generator=noise)) for x in overlap(replies, references)]

    checked(Made(pay=rounded))


def test_equal_references_can_tell_nothing() -> None:
    task = bind([dialogue_rows(1)[0]] * 4, tiny())
    check_reward(Made(pay=negative), task, [0, 1, 2, 3], CPU, "mine")


def test_a_sum_asks_what_all_its_terms_bear() -> None:
    def terms(*names: str, weights: list[float]) -> str:
        given = [option(name) for name in names]
        return str(option("weighted_sum", terms=given, weights=weights).contract)

    assert terms("bleu", "rouge_l", weights=[0.5, 0.5]) == "reference"
    assert terms("bleu", "length", weights=[0.5, 0.5]) == "alone"
    assert terms("bleu", "rouge_l", weights=[0.5, -0.5]) == "alone"
    assert terms("bleu", "constant", weights=[0.5, 0.5]) == "none"
