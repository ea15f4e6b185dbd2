"""Reward models and DPO: losses by hand, what they learn, micro-batches, and the reference policy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.algo.dpo import Dpo
from rlft_cli.algo.reward_model import RewardModel
from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.errors import RlftError
from rlft_cli.learner import learn
from rlft_cli.model import Output
from rlft_cli.task.dialogue import Dialogue
from rlft_cli.task.preference import Preference
from rlft_cli.update import update
from toy_training import (
    differences,
    largest_difference,
    optim,
    plain_gradient_steps,
    policy_of,
    tiny,
    training,
    weights,
)

BETA = 0.5


def comparison(better: int) -> Trajectory:
    return blank({"id": torch.tensor([0])}, torch.tensor([[better]]), torch.ones(1, 1, dtype=torch.bool))


def last(**changes: Any) -> RewardModel:
    return RewardModel(**({"loss_over": "last", "margin": 0.0} | changes))


@pytest.mark.parametrize(("better", "margin", "difference"), [(0, 0.0, 1.5), (1, 0.0, -1.5), (0, 1.0, 0.5)])
def test_the_loss_over_whole_replies(better: int, margin: float, difference: float) -> None:
    output = Output(scores=torch.tensor([[[2.0, 0.5]]]), value=None)
    found = last(margin=margin).loss(output, comparison(better), None)
    # -log sigma(d) = log(1 + exp(-d)), d = r_w - r_l - margin
    assert found.tolist() == [[pytest.approx(math.log1p(math.exp(-difference)), abs=1e-6)]]


def test_the_loss_over_tokens_is_their_mean() -> None:
    # rewards after three tokens, the first one shared: differences 1 and 3 for the first reply
    heads = torch.tensor([[[[ILLEGAL_SCORE, 1.0, 2.0], [ILLEGAL_SCORE, 0.0, -1.0]]]], requires_grad=True)
    output = Output(scores=torch.zeros(1, 1, 2), value=None, heads=heads)
    found = last(loss_over="tokens").loss(output, comparison(0), None)
    assert found.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))) / 2, abs=1e-6)
    found.sum().backward()
    assert heads.grad is not None and heads.grad[0, 0, 0, 0] == 0 and torch.isfinite(heads.grad).all()
    other = last(loss_over="tokens").loss(output, comparison(1), None)
    assert other.item() == pytest.approx((math.log1p(math.exp(1)) + math.log1p(math.exp(3))) / 2, abs=1e-6)


def replies(log_prob: list[list[float]], reference: list[list[float]]) -> tuple[Trajectory, Output]:
    """One pair of replies of two and one tokens over three actions, action 0 with the given log-probabilities."""
    mask = torch.tensor([[True, True], [True, False]])
    start = blank({"id": torch.tensor([0])}, torch.zeros(2, 2, dtype=torch.int64), mask)
    chance = torch.tensor(log_prob).exp()
    rest = ((1 - chance) / 2)[..., None].expand(2, 2, 2)
    scores = torch.cat([chance[..., None], rest], dim=-1).log()
    return replace(start, reference_log_prob=torch.tensor(reference)), Output(scores=scores, value=None)


def test_dpo_by_hand() -> None:
    # chosen: -1 - .5 against -1.5 - 1: up by 1; rejected: -2 against -1.25: down by .75 (its second token is none)
    pair, output = replies([[-1.0, -0.5], [-2.0, -0.1]], [[-1.5, -1.0], [-1.25, float("nan")]])
    algorithm = Dpo(beta=BETA)
    prepared = algorithm.prepare(pair)
    assert prepared.observed.tolist() == [[True, False], [False, False]]
    found = algorithm.loss(output, prepared, None)
    assert found[0, 0].item() == pytest.approx(math.log1p(math.exp(-BETA * 1.75)), abs=1e-6)
    assert found.flatten()[1:].tolist() == [0.0] * 3


# -- in the loop ---------------------------------------------------------------------------------------------------

GOOD, BAD = ("glad", "happy", "fine", "dear"), ("sad", "angry", "cross", "mad")


def rows(count: int) -> list[dict[str, Any]]:
    """Kind replies are preferred to others, whatever was said."""
    return [
        {
            "turns": [{"role": "user", "content": f"say {n % 3}"}],
            "chosen": f"{GOOD[n % 4]} {GOOD[(n // 4) % 4]}",
            "rejected": f"{BAD[(n // 2) % 4]} {BAD[n % 4]}",
            "origin": f"toy:{n + 1}",
        }
        for n in range(count)
    ]


def texts() -> list[str]:
    return [" ".join((*GOOD, *BAD, "say 0 1 2"))]


def compared(algorithm: RewardModel, **parts: Any) -> Any:
    model = tiny()
    task = Preference(context_turns=1, max_prompt_tokens=16, max_reply_tokens=6).build([], model.codec(None, texts()))
    ids = task.add(rows(32))
    policy = policy_of(model, task, algorithm.reads)
    return training(policy, task, algorithm, ids=ids, **parts)


def preferred(beta: float = BETA, **parts: Any) -> Any:
    model = tiny()
    settings = Dialogue(
        context_turns=1, max_prompt_tokens=16, max_reply_tokens=6, replies="all", language="en", stop=[]
    )
    task = settings.build([], model.codec(None, texts()))
    ids = task.add(rows(32))
    return training(policy_of(model, task), task, Dpo(beta=beta), ids=ids, pairs=task.preferred, **parts)


@pytest.mark.parametrize("loss_over", ["last", "tokens"])
def test_a_reward_model_learns_what_is_preferred(loss_over: str) -> None:
    made = compared(last(loss_over=loss_over), optim=optim(lr=1e-2, head_lr=1e-2), passes=4.0)
    for progress in learn(made):
        assert progress.signals["loss"] == progress.signals["loss"]
    fresh = made.task.ask([{**rows(1)[0], "chosen": "fine dear", "rejected": "cross angry"}])
    with torch.no_grad():
        reward = made.policy.eval()(made.task.collate(fresh), torch.zeros(1, 1, dtype=torch.int64)).scores[0, 0]
    assert reward[0] > reward[1] + 1
    assert made.counts.label_examples == 32


def margin_of(made: Any) -> Tensor:
    """Log-probability of the preferred replies less that of the others [32], by the policy as it is."""
    ids = list(range(32))
    action, mask = made.task.preferred(ids)
    with torch.no_grad():
        scores = made.policy.eval()(made.inputs(ids), action).scores
    log_prob = torch.where(mask, scores.log_softmax(-1).gather(-1, action[..., None]).squeeze(-1), 0.0).sum(1)
    return log_prob[::2] - log_prob[1::2]


def test_dpo_learns_what_is_preferred() -> None:
    made = preferred(optim=optim(lr=3e-3), passes=3.0)
    before = margin_of(made)
    first = None
    for progress in learn(made):
        first = progress.signals["loss"] if first is None else first
    assert first == pytest.approx(math.log(2), abs=1e-5)  # the policy is its own reference at the start
    assert (margin_of(made) - before).mean() > 1


CASES = {"last": lambda **p: compared(last(), **p), "tokens": lambda **p: compared(last(loss_over="tokens"), **p)}
CASES["dpo"] = preferred


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_do_not_matter(case: str) -> None:
    """Law 2: the pair stays together, and a batch is averaged over pairs."""
    from rlft_cli.collect import collect

    found = []
    for parts in (1, 8):
        made = CASES[case](optim=optim(micro_batches=parts, max_grad_norm=1e9))
        plain_gradient_steps(made, 0.5)
        made.policy.eval()
        collect(made, list(range(24)))
        batch = made.memory.sample(10_000, 32, made.memory_generator)
        before = weights(made.policy)
        for _ in range(3):
            update(made, batch)
        assert largest_difference(before, weights(made.policy)) > 1e-3
        found.append(weights(made.policy))
    assert largest_difference(*found) < 1e-6


def test_dpo_goes_on_where_it_stopped() -> None:
    """Law 3, the reference policy included, which is not the policy that goes on."""
    whole = preferred()
    for _ in learn(whole):
        pass
    killed = preferred()
    for progress in learn(killed):
        if progress.step == 3:
            break
    again = preferred()
    again.load_state_dict(killed.state_dict())
    for _ in learn(again):
        pass
    assert differences(whole.state_dict(), again.state_dict()) == []


def test_dpo_needs_two_replies() -> None:
    made = preferred()
    turns = [{"role": "user", "content": "say 1"}, {"role": "assistant", "content": "glad"}]
    lone = made.task.add([{"turns": turns, "origin": "t:9"}])
    with pytest.raises(RlftError, match="t:9: has no rejected reply, and this algorithm learns from pairs"):
        made.task.preferred(lone)
    with pytest.raises(RlftError, match="t:9: has one reply, judged to be wrong"):
        made.task.add([{**rows(1)[0], "chosen": None, "origin": "t:9"}])


def test_one_reply_of_a_pair_is_what_other_algorithms_learn() -> None:
    made = preferred()
    ids = made.task.add(rows(2))
    action, mask = made.task.demonstration(ids)
    assert made.task.decode(action, mask, ids) == made.task.references(ids) == ["glad glad", "happy glad"]
