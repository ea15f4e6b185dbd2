"""Rewards of replies, sums of rewards and the constant control, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.reward import Batch, Reward
from rlft_cli.reward.accuracy import Accuracy
from rlft_cli.reward.bleu import Bleu
from rlft_cli.reward.chrf import Chrf
from rlft_cli.reward.constant import Constant
from rlft_cli.reward.exact_span import ExactSpan
from rlft_cli.reward.rouge_l import RougeL
from rlft_cli.reward.sentence_f1 import SentenceF1
from rlft_cli.reward.token_accuracy import TokenAccuracy
from rlft_cli.reward.weighted_sum import WeightedSum

MASK = torch.tensor([[True, True, False], [True, True, True]])


def judge(reward: Reward, replies: list[str], references: list[str]) -> Tensor:
    batch = Batch(references=references, predictions=replies, labels=[])
    return reward(torch.zeros(2, 3, dtype=torch.int64), MASK, batch)


@pytest.mark.parametrize(
    ("reward", "first"),
    [
        # "a x c" for "a b c d": longest common subsequence a c, so P 2/3, R 2/4, F1 4/7
        (RougeL(language="en"), 4 / 7),
        # words 2/3, pairs 0/2 smoothed to 1/4, triples 0/1 to 1/4; brevity penalty exp(1 - 4/3)
        (Bleu(language="en"), (2 / 3 * 1 / 4 * 1 / 4) ** (1 / 3) * 0.716531310573789),
        # characters axc, abcd: order 1 P 2/3, R 2/4, orders 2 and 3 none: means P 2/9, R 1/6; F2 = 5PR/(4P + R)
        (Chrf(word_order=0), 5 * (2 / 9) * (1 / 6) / (4 * 2 / 9 + 1 / 6)),
    ],
    ids=["rouge_l", "bleu", "chrf"],
)
def test_a_reply_is_paid_at_its_last_token(reward: Reward, first: float) -> None:
    paid = judge(reward, ["a x c", "yes please"], ["a b c d", "yes please"])
    assert paid.tolist() == [[0, pytest.approx(first), 0], [0, 0, pytest.approx(1.0)]]


def test_chinese_replies_are_compared_by_character() -> None:
    assert judge(RougeL(language="zh"), ["咖啡", "好"], ["大咖啡", "好"])[0, 1].item() == pytest.approx(4 / 5)
    assert judge(Bleu(language="zh"), ["大咖啡", "好"], ["大咖啡", "好"])[0, 1].item() == pytest.approx(1.0)


def test_an_empty_reply_is_worth_nothing() -> None:
    for reward in (RougeL(language="en"), Bleu(language="en"), Chrf(word_order=0)):
        assert judge(reward, ["", "a"], ["yes please", ""]).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_one_reference_per_reply() -> None:
    with pytest.raises(RlftError, match="1 references for 2 episodes"):
        judge(RougeL(language="en"), ["a"], ["a"])


def test_constant() -> None:
    assert judge(Constant(value=0.5), ["a", "b"], ["a", "b"]).tolist() == [[0, 0.5, 0], [0, 0, 0.5]]
    batch = Batch(references=[["O"] * 2, ["O"] * 3], predictions=[["O"] * 2, ["O"] * 3], labels=["O"])
    paid = Constant(value=-1.0)(torch.zeros(2, 3, dtype=torch.int64), MASK, batch)
    assert paid.tolist() == [[-1, -1, 0], [-1, -1, -1]]


def test_a_sum_is_the_weighted_sum_of_its_terms() -> None:
    token, sentence = TokenAccuracy(outside_weight=0.5), SentenceF1()
    both = WeightedSum(terms=[token, sentence], weights=[0.25, -2.0])
    labels, tags = ["O", "B-X"], [["O", "B-X"]]
    batch = Batch(references=tags, predictions=tags, labels=labels)
    # tokens pay .5 and 1, the sentence 1 at the end: .25 * .5, .25 * 1 - 2 * 1
    paid = both(torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool), batch)
    assert paid.tolist() == [[0.125, -1.75]]


def test_terms_and_weights_pair_up() -> None:
    with pytest.raises(UsageError, match=r"2 rewards and reward\.weights 1 numbers"):
        WeightedSum(terms=[Accuracy(), Constant(value=1.0)], weights=[1.0])
    with pytest.raises(UsageError, match="0 rewards"):
        WeightedSum(terms=[], weights=[])


def test_terms_judge_one_kind_of_decision() -> None:
    span = ExactSpan(miss_penalty=0.0, credit="close")
    WeightedSum(terms=[span, Constant(value=1.0)], weights=[0.5, 0.5])
    WeightedSum(terms=[WeightedSum(terms=[span], weights=[1.0]), SentenceF1()], weights=[0.5, 0.5])
    with pytest.raises(UsageError, match="ExactSpan judges tags; Accuracy judges classes"):
        WeightedSum(terms=[span, Accuracy()], weights=[0.5, 0.5])
