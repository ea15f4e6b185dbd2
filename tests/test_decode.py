"""Decoding: greedy as ever; a tree search finds what enumeration finds, by the policy, by values and by rewards."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from rlft_cli.decode import Aids
from rlft_cli.decode.mcts import Mcts
from rlft_cli.episode import rollout
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.evaluation import Evaluator
from rlft_cli.explore.greedy import Greedy
from rlft_cli.model.tiny import TinyT5
from rlft_cli.reward.accuracy import Accuracy
from rlft_cli.task.dialogue import Dialogue
from toy_training import accelerator, bind, class_rows, corpus, dialogue_rows, policy_of, tagged_rows, tiny


def mcts(**changes: Any) -> Mcts:
    settings: dict[str, Any] = {
        "worth": "policy", "simulations": 2000, "exploration": 1.25, "temperature": 1.0, "width": 1000
    }  # fmt: skip
    return Mcts(**(settings | changes))


def evaluator(task: Any, *, tokens: int = 300, **parts: Any) -> Evaluator:
    return Evaluator(
        task=task,
        device=torch.device("cpu"),
        autocast=accelerator().autocast,
        batch_tokens=tokens,
        resamples=2,
        seed=1,
        **parts,
    )


def moved(task: Any, reads: frozenset[str] = frozenset()) -> Any:
    """A policy whose scores differ from decision to decision."""
    policy: Any = policy_of(tiny(), task, reads)
    noise = torch.Generator().manual_seed(3)
    for weight in policy.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=noise)
    if task.decisions == "tokens":  # five words and the end: what can be enumerated
        words = [n for n in range(policy.actions) if not bool(policy.illegal[n]) and n != task.codec.eos_id]
        policy.illegal[words[5:]] = True
    return policy.eval()


def talk(horizon: int) -> Any:
    """A task of three short replies."""
    rows, model = dialogue_rows(3, seed=2), tiny()
    settings = Dialogue(
        context_turns=3, max_prompt_tokens=32, max_reply_tokens=horizon, replies="all", language="en", stop=[]
    )
    task = settings.build([], model.codec(None, list(corpus(rows))))
    task.add(rows)
    return task


@torch.no_grad()
def log_prob_of(policy: Any, task: Any, i: int, paths: list[tuple[int, ...]]) -> Tensor:
    """Log-probability [M, T] of each decision of several whole answers to one example, by one pass over each; 0 beyond."""
    width = max(map(len, paths))
    action = torch.tensor([[*path, *[0] * (width - len(path))] for path in paths])
    mask = torch.arange(width)[None, :] < torch.tensor([len(path) for path in paths])[:, None]
    chance = torch.log_softmax(policy(task.collate([i]), action).scores.double(), dim=-1)
    return chance.gather(-1, action[..., None]).squeeze(-1).masked_fill(~mask, 0.0)


def legal_tags(task: Any, length: int) -> list[tuple[int, ...]]:
    names = task.labels

    def follows(before: str, tag: str) -> bool:
        return not tag.startswith("I-") or before[2:] == tag[2:]

    every = itertools.product(range(len(names)), repeat=length)
    return [
        p for p in every if all(follows(names[a], names[b]) for a, b in zip((names.index("O"), *p), p, strict=False))
    ]


def replies(policy: Any, task: Any) -> list[tuple[int, ...]]:
    """Every reply of at most two tokens."""
    words = [n for n in range(policy.actions) if not bool(policy.illegal[n]) and n != task.codec.eos_id]
    return [(task.codec.eos_id,), *itertools.product(words, [*words, task.codec.eos_id])]


def texts(task: Any, paths: list[tuple[int, ...]]) -> list[str]:
    return [task.text(path).strip() for path in paths]


# -- greedy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [tagged_rows, class_rows, dialogue_rows], ids=["tags", "classes", "tokens"])
def test_greedy_is_the_rollout_of_the_best_action(rows: Any) -> None:
    task = bind(rows(9, seed=2), tiny())
    policy, ids = moved(task), list(range(9))
    acted = rollout(
        policy, task, task.collate(ids), Greedy(split_ties=False), samples=1, progress=1.0,
        generator=torch.Generator(), values=lambda scores: scores,
    )  # fmt: skip
    assert evaluator(task, tokens=5000).predict(policy, ids) == task.decode(acted.action, acted.mask, ids)


@pytest.mark.parametrize("rows", [tagged_rows, class_rows, dialogue_rows], ids=["tags", "classes", "tokens"])
def test_one_action_wide_is_greedy(rows: Any) -> None:
    task = bind(rows(9, seed=2), tiny())
    policy, ids = moved(task), list(range(9))
    narrow = evaluator(task, decode=mcts(width=1, simulations=3))
    assert narrow.predict(policy, ids) == evaluator(task).predict(policy, ids)


# -- against enumeration -------------------------------------------------------------------------------------------


def test_tags_are_the_likeliest_sequence() -> None:
    task = bind(tagged_rows(12, seed=5, longest=4), tiny())
    policy, ids = moved(task), list(range(12))
    found, greedy = (one.predict(policy, ids) for one in (evaluator(task, decode=mcts()), evaluator(task)))
    better = 0
    for i, tags in enumerate(found):
        every = legal_tags(task, len(tags))
        total = log_prob_of(policy, task, i, every).sum(1)
        assert tags == [task.labels[a] for a in every[int(total.argmax())]]
        better += tags != greedy[i]
    assert better > 0, "greedy must not be the best everywhere, or this says nothing"


def test_values_of_tags_add_up() -> None:
    """Of Q values with gamma 0: the sum of sigmoids, which is another optimum than that of log-probabilities."""
    task = bind(tagged_rows(12, seed=5, longest=4), tiny())
    policy, ids = moved(task), list(range(12))
    policy.head.score.bias.data += 2.0  # where sigmoids are near 1, small scores cost less than their log-probability
    aids = Aids(values=torch.sigmoid, gamma=0.0)
    found = evaluator(task, decode=mcts(temperature=0.1), aids=aids).predict(policy, ids)
    by_chance = evaluator(task, decode=mcts()).predict(policy, ids)
    assert found != by_chance
    for i, tags in enumerate(found):
        every = legal_tags(task, len(tags))
        scores = policy(task.collate([i]), torch.tensor(every)).scores
        total = torch.sigmoid(scores.double()).gather(-1, torch.tensor(every)[..., None]).sum((1, 2))
        assert tags == [task.labels[a] for a in every[int(total.argmax())]]


@pytest.mark.parametrize("worth", ["policy", "policy_mean"])
def test_replies_are_the_likeliest_of_all(worth: str) -> None:
    task = talk(horizon=2)
    policy = moved(task)
    every = replies(policy, task)
    found = evaluator(task, decode=mcts(worth=worth)).predict(policy, [0, 1, 2])
    for i, reply in enumerate(found):
        total = log_prob_of(policy, task, i, every).sum(1)
        total = total / torch.tensor([len(path) for path in every]) if worth == "policy_mean" else total
        assert reply == texts(task, every)[int(total.argmax())]


def test_a_value_head_is_asked_before_the_last_token() -> None:
    task = talk(horizon=2)
    policy = moved(task, frozenset({"value"}))
    every = replies(policy, task)
    found = evaluator(task, decode=mcts(worth="value"), aids=Aids(foresees=True)).predict(policy, [0, 1, 2])
    for i, reply in enumerate(found):
        width = [len(path) - 1 for path in every]
        action = torch.tensor([[*path, 0][:2] for path in every])
        with torch.no_grad():
            value = policy(task.collate([i]), action).value[torch.arange(len(every)), torch.tensor(width)]
        alike = {
            text for text, v in zip(texts(task, every), value.tolist(), strict=True) if v > float(value.max()) - 1e-6
        }
        assert reply in alike, "the last token is not foreseen, so that many replies are alike"


def test_the_value_of_the_last_token_where_values_were_learned() -> None:
    task = talk(horizon=2)
    policy = moved(task)
    every = replies(policy, task)
    aids = Aids(values=torch.tanh, gamma=1.0)
    found = evaluator(task, decode=mcts(worth="value"), aids=aids).predict(policy, [0, 1, 2])
    for i, reply in enumerate(found):
        action = torch.tensor([[*path, 0][:2] for path in every])
        last = torch.tensor([len(path) - 1 for path in every])
        with torch.no_grad():
            scores = policy(task.collate([i]), action).scores[torch.arange(len(every)), last]
        value = torch.tanh(scores).gather(1, action.gather(1, last[:, None])).squeeze(1)
        assert reply == texts(task, every)[int(value.argmax())]


def test_encoder_decoders_are_searched_too() -> None:
    """The same replies as by enumeration, of three words and the end."""
    rows, model = (
        dialogue_rows(3, seed=2),
        TinyT5(width=16, layers=1, heads=2, max_tokens=64, max_vocabulary=200, dropout=0.0),
    )
    task = bind(rows, model)
    policy: Any = policy_of(model, task).eval()
    policy.illegal[: task.codec.eos_id] = policy.illegal[task.codec.eos_id + 4 :] = True
    task.writing = replace(task.writing, max_reply_tokens=2)
    found = evaluator(task, decode=mcts()).predict(policy, [0, 1, 2])
    for i, reply in enumerate(found):
        every = replies(policy, task)
        assert reply == texts(task, every)[int(log_prob_of(policy, task, i, every).sum(1).argmax())]


# -- by a reward ---------------------------------------------------------------------------------------------------


class Planted:
    """Pays for one reply that no policy would give, and for having nothing to compare with."""

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    contract: ClassVar[str] = "alone"

    def __init__(self, wanted: list[Any]) -> None:
        self.wanted, self.asked, self.references = wanted, 0, set[str]()

    def __call__(self, action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        self.asked += len(mask)
        self.references |= {str(reference) for reference in batch.references}
        paid = torch.zeros(mask.shape)
        paid[:, 0] = torch.tensor([float(prediction in self.wanted) for prediction in batch.predictions])
        paid[~mask] = float("nan")
        return paid


@pytest.mark.parametrize("rows", [tagged_rows, class_rows, dialogue_rows], ids=["tags", "classes", "tokens"])
def test_what_a_reward_wants_is_found(rows: Any) -> None:
    task = talk(horizon=2) if rows is dialogue_rows else bind(rows(3, seed=5), tiny())
    policy = moved(task)
    greedy = evaluator(task).predict(policy, [0, 1, 2])
    if rows is dialogue_rows:
        planted = Planted([text for text in texts(task, replies(policy, task)) if text and text not in greedy][-2:])
    elif rows is class_rows:
        planted = Planted([next(label for label in task.labels if label not in greedy)])
    else:
        planted = Planted([[*["O"] * (len(tags) - 1), "B-LOC"] for tags in greedy])
    aids = Aids(reward=planted)
    found = evaluator(task, decode=mcts(worth="reward"), aids=aids).predict(policy, [0, 1, 2])
    assert all(answer in planted.wanted for answer in found)
    assert planted.references <= {"", "[]"}, "no reference is told"
    assert all(answer not in planted.wanted for answer in greedy)


def test_each_reply_is_judged_once_and_few_rollouts_are_asked_for() -> None:
    task = talk(horizon=2)
    policy, planted, begun = moved(task), Planted([]), []
    begin = policy.begin

    def counted(*given: Any) -> Any:
        begun.append(1)
        return begin(*given)

    policy.begin = counted
    evaluator(task, tokens=5000, decode=mcts(worth="reward"), aids=Aids(reward=planted)).predict(policy, [0, 1, 2])
    every = len(replies(policy, task))
    assert planted.asked == 3 * every
    assert len(begun) <= every + 1, "all prompts of a batch in one rollout"


@pytest.mark.parametrize("rows", [tagged_rows, dialogue_rows], ids=["tags", "tokens"])
def test_batches_do_not_matter(rows: Any) -> None:
    task, count = (bind(rows(12, seed=5), tiny()), 12) if rows is tagged_rows else (bind(rows(3, seed=2), tiny()), 3)
    policy, decode, ids = moved(task), mcts(simulations=8, width=3), list(range(count))
    alone, together = (evaluator(task, tokens=n, decode=decode).predict(policy, ids) for n in (1, 5000))
    assert alone == together != evaluator(task).predict(policy, ids)


def test_an_evaluation_scores_the_answers_that_were_found() -> None:
    task = bind(class_rows(6, seed=2), tiny())
    policy, wanted = moved(task), task.references([4])
    aids = Aids(reward=Planted(wanted))
    found = evaluator(task, decode=mcts(worth="reward"), aids=aids).evaluate(policy, list(range(6)), Accuracy())
    right = sum(label == wanted[0] for label in task.references(list(range(6)))) / 6
    assert found.predictions == wanted * 6
    assert found.metrics["accuracy"]["value"] == found.metrics["reward"]["value"] == pytest.approx(right)


def test_a_reward_that_is_no_number_is_refused() -> None:
    task = bind(class_rows(3), tiny())

    def broken(action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        return torch.full(mask.shape, torch.nan)

    aids: Any = Aids(reward=broken)  # type: ignore[arg-type]
    with pytest.raises(RlftError, match="worth of nan"):
        evaluator(task, decode=mcts(worth="reward"), aids=aids).predict(moved(task), [0])


def test_scores_that_are_no_numbers_are_refused() -> None:
    task = bind(tagged_rows(3), tiny())
    policy = moved(task)
    policy.head.project.weight.data.fill_(torch.nan)
    with pytest.raises(RlftError, match="not numbers"):
        evaluator(task, decode=mcts()).predict(policy, [0])


# -- what cannot be had --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worth", "decisions", "aids", "way"),
    [
        ("policy", "tags", Aids(values=torch.sigmoid, gamma=0.9), "decode=greedy"),
        ("policy_mean", "tokens", Aids(values=torch.sigmoid, gamma=1.0), "decode.worth=value"),
        ("value", "tags", Aids(foresees=True), "decides tags"),
        ("value", "tokens", Aids(), "learned no values"),
        ("reward", "tokens", Aids(), "reward=NAME"),
        ("policy", "pairs", Aids(), "decode=greedy"),
    ],
)
def test_a_worth_that_cannot_be_had_is_refused(worth: str, decisions: str, aids: Aids, way: str) -> None:
    class Decides:
        pass

    Decides.decisions = decisions  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=way):
        mcts(worth=worth).require(Decides(), aids)  # type: ignore[arg-type]
