"""Policy gradients against enumeration: every expectation is a finite sum over all legal tag paths (METHODS 7.1)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.metrics.spans import span_f1, spans
from rlft_cli.model import Output
from rlft_cli.model.words import legal_transitions
from rlft_cli.returns import action_log_prob, entropy, kl_k1, kl_k2, kl_k3
from rlft_cli.reward.f1_delta import potentials
from toy_training import reinforce

TAGS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
GOLD = ["B-X", "I-X", "O", "B-Y"]
T, K = 4, 5
D = torch.float64
EXACT = 1e-8  # relative; measured about 1e-15
WRONG = 1e-2  # what a mutation must exceed, relative


@dataclass(frozen=True)
class Toy:
    """All 153 legal sequences of 4 words and 2 types under a first-order softmax policy of 50 weights."""

    action: Tensor  # [153, 4]
    f1: Tensor  # [153] F1 of the sentence
    delta: Tensor  # [153, 4] the change in F1 by each tag
    theta: Tensor  # [50]
    other: Tensor  # [50] a reference policy
    legal: Tensor  # [6, 5]

    def scores(self, theta: Tensor) -> Tensor:
        """Scores [153, 4, 5]: emission of the word plus transition from the previous tag."""
        emission, transition = theta[: T * K].view(T, K), theta[T * K :].view(K + 1, K)
        start = torch.full_like(self.action[:, :1], K)
        previous = torch.cat([start, self.action[:, :-1]], 1)
        scores = emission[None] + transition[previous]
        return scores.masked_fill(~self.legal[previous], ILLEGAL_SCORE)

    def log_prob(self, theta: Tensor) -> Tensor:
        """log p [153, 4] of each decision."""
        return action_log_prob(self.scores(theta), self.action)


@cache
def toy() -> Toy:
    chance = torch.Generator().manual_seed(0)
    legal = legal_transitions(TAGS)
    every = [
        s
        for s in itertools.product(range(K), repeat=T)
        if all(bool(legal[p, a]) for p, a in zip((K, *s[:-1]), s, strict=True))
    ]
    names = [[TAGS[a] for a in sequence] for sequence in every]
    return Toy(
        action=torch.tensor(every),
        f1=torch.tensor([span_f1(spans(tags), spans(GOLD)) for tags in names], dtype=D),
        delta=torch.stack([torch.from_numpy(potentials(tags, GOLD)).diff() for tags in names]),
        theta=torch.randn(T * K + (K + 1) * K, generator=chance, dtype=D),
        other=torch.randn(T * K + (K + 1) * K, generator=chance, dtype=D),
        legal=legal,
    )


def at_end(total: Tensor) -> Tensor:
    """A reward [N] paid at the last of 4 decisions: [N, 4]."""
    return torch.cat([total.new_zeros(len(total), T - 1), total[:, None]], 1)


def batch(action: Tensor, samples: int, **columns: Tensor) -> Trajectory:
    observation = {"id": torch.arange(len(action) // samples)}
    return replace(blank(observation, action, torch.ones_like(action, dtype=torch.bool)), **columns)


def gradient(of: Tensor, theta: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(of, theta)
    return found


def true_gradient(reward: Tensor) -> Tensor:
    """d/dtheta of sum_y p(y) R(y), R [153]."""
    theta = toy().theta.clone().requires_grad_()
    return gradient((toy().log_prob(theta).sum(1).exp() * reward).sum(), theta)


def expected_gradient(algorithm: Any, reward: Tensor, **columns: Tensor) -> Tensor:
    """-sum_y p(y) d loss(y) / d theta one sample, reward [153, 4]; each y a batch of its own."""
    theta = toy().theta.clone().requires_grad_()
    scores = toy().scores(theta)
    chance = toy().log_prob(theta).detach().sum(1).exp()
    prepared = algorithm.prepare(batch(toy().action, 1, reward=reward, **columns))
    loss = algorithm.loss(Output(scores=scores, value=None), prepared, None)
    return -gradient((chance[:, None] * loss).sum(), theta)


def residual(found: Tensor, right: Tensor) -> float:
    return float((found - right).norm() / right.norm())


def cosine(found: Tensor, right: Tensor) -> float:
    return float(found @ right / found.norm() / right.norm())


def test_the_toy_is_whole() -> None:
    assert len(toy().action) == 153
    assert abs(float(toy().log_prob(toy().theta).sum(1).exp().sum()) - 1) < 1e-12
    assert float(toy().f1.max()) == 1.0 and float(toy().f1.min()) == 0.0


# -- rows 1, 6, 8, 10: one sample ----------------------------------------------------------------------------------


def test_reinforce_without_baseline() -> None:
    """Row 1, with the reward paid at the end and credited to every decision, in both forms of credit."""
    right = true_gradient(toy().f1)
    for credit in ("return_to_go", "episode"):
        algorithm = reinforce(samples=1, baseline="none", credit=credit, gamma=1.0)
        assert residual(expected_gradient(algorithm, at_end(toy().f1)), right) < EXACT
    lost = at_end(toy().f1)
    lost[:, -1] = 0.0  # the twin: the last reward dropped
    assert residual(expected_gradient(reinforce(samples=1, baseline="none", gamma=1.0), lost), right) > WRONG


def test_a_constant_baseline_does_not_bias() -> None:
    """Row 1: the moving average of earlier batches is a constant for this one; the twin is the reward's own."""
    right = true_gradient(toy().f1)
    algorithm = reinforce(samples=1, baseline="moving_average", gamma=1.0)
    algorithm.state["baseline"] = torch.tensor(0.37, dtype=D)
    assert residual(expected_gradient(algorithm, at_end(toy().f1)), right) < EXACT
    own = torch.where(toy().f1 > 0.5, toy().f1, 0.0)  # a baseline that depends on the action
    twin = expected_gradient(reinforce(samples=1, baseline="none", gamma=1.0), at_end(toy().f1 - own))
    assert residual(twin, right) > WRONG


def test_the_self_critical_baseline_does_not_bias() -> None:
    right = true_gradient(toy().f1)
    greedy = at_end(torch.full_like(toy().f1, 0.8))
    algorithm = reinforce(samples=1, baseline="self_critical", gamma=1.0)
    assert residual(expected_gradient(algorithm, at_end(toy().f1), greedy_reward=greedy), right) < EXACT


def test_return_to_go_is_unbiased_and_a_myopic_one_is_not() -> None:
    """Row 6: rewards per decision; what came before a decision does not count, what follows does."""
    per_tag = (toy().action == torch.tensor([TAGS.index(tag) for tag in GOLD])).to(D)
    right = true_gradient(per_tag.sum(1))
    assert residual(expected_gradient(reinforce(samples=1, baseline="none", gamma=1.0), per_tag), right) < EXACT
    episode = reinforce(samples=1, baseline="none", credit="episode", gamma=1.0)
    assert residual(expected_gradient(episode, per_tag), right) < EXACT
    myopic = expected_gradient(reinforce(samples=1, baseline="none", gamma=0.0), per_tag)
    assert residual(myopic, right) > WRONG and cosine(myopic, right) > 0.5


def test_forgetting_the_legality_mask_is_wrong() -> None:
    """The twin of the mask: scores of illegal tags let through into the loss."""
    theta = toy().theta.clone().requires_grad_()
    free = replace(toy(), legal=torch.ones_like(toy().legal))
    chance = toy().log_prob(theta).detach().sum(1).exp()
    algorithm = reinforce(samples=1, baseline="none", gamma=1.0)
    prepared = algorithm.prepare(batch(toy().action, 1, reward=at_end(toy().f1)))
    loss = algorithm.loss(Output(scores=free.scores(theta), value=None), prepared, None)
    assert residual(-gradient((chance[:, None] * loss).sum(), theta), true_gradient(toy().f1)) > WRONG


def test_a_constant_reward_teaches_nothing() -> None:
    """Row 10."""
    found = expected_gradient(reinforce(samples=1, baseline="none", gamma=1.0), at_end(torch.ones(153, dtype=D)))
    assert found.abs().max() < 1e-12


def test_a_zero_one_reward_is_scaled_by_the_chance_of_the_right_answer() -> None:
    """Row 8: d J = pi(y*) d log pi(y*)."""
    hit = (toy().f1 == 1).to(D)
    assert hit.sum() == 1
    theta = toy().theta.clone().requires_grad_()
    log_prob = toy().log_prob(theta).sum(1)[hit.bool()].squeeze(0)
    right = log_prob.detach().exp() * gradient(log_prob, theta)
    assert residual(expected_gradient(reinforce(samples=1, baseline="none", gamma=1.0), at_end(hit)), right) < EXACT


def test_f1_delta_is_terminal_f1() -> None:
    """Row 7: it telescopes, and with gamma 1 its policy gradient is that of the sentence's F1."""
    assert (toy().delta.sum(1) - toy().f1).abs().max() < 1e-12  # Phi_0 = 0: the reference has entities
    right = true_gradient(toy().f1)
    whole = expected_gradient(reinforce(samples=1, baseline="none", gamma=1.0), toy().delta)
    assert residual(whole, right) < EXACT
    twin = expected_gradient(reinforce(samples=1, baseline="none", gamma=0.0), toy().delta)
    assert residual(twin, right) > WRONG


# -- rows 2, 3: two samples ----------------------------------------------------------------------------------------


def pairs(action_reward: Tensor, algorithm: Any) -> Tensor:
    """-E of the loss's gradient over all 153 x 153 pairs of samples of one example, mean over the two."""
    theta = toy().theta.clone().requires_grad_()
    scores, log_prob = toy().scores(theta), toy().log_prob(theta).detach().sum(1)
    index = torch.cartesian_prod(torch.arange(153), torch.arange(153))  # [23409, 2]
    rows = index.reshape(-1)
    prepared = algorithm.prepare(batch(toy().action[rows], 2, reward=at_end(action_reward)[rows]))
    weight = log_prob[index].sum(1).exp().repeat_interleave(2) / 2
    loss = algorithm.loss(Output(scores=scores[rows], value=None), prepared, None)
    return -gradient((weight[:, None] * loss).sum(), theta)


def test_leave_one_out_is_unbiased() -> None:
    """Row 2."""
    assert residual(pairs(toy().f1, reinforce(samples=2, gamma=1.0)), true_gradient(toy().f1)) < EXACT


def test_a_mean_that_holds_the_sample_itself_is_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 3, the twin of leave-one-out: (k - 1) / k of the gradient."""
    from rlft_cli.algo import reinforce as module

    def including(returns: Tensor, samples: int) -> Tensor:
        grouped = returns.unflatten(0, (-1, samples))
        return (grouped - grouped.mean(1, keepdim=True)).flatten(0, 1)

    monkeypatch.setattr(module, "leave_one_out", including)
    found = pairs(toy().f1, reinforce(samples=2, gamma=1.0))
    assert residual(found, 0.5 * true_gradient(toy().f1)) < EXACT


# -- rows 9, 13: entropy and KL ------------------------------------------------------------------------------------


def test_the_entropy_bonus() -> None:
    """Row 9: with no reward the loss is minus the coefficient times the entropy of each decision."""
    theta = toy().theta.clone().requires_grad_()
    chance = toy().log_prob(theta).detach().sum(1).exp()
    right = 0.3 * gradient((chance[:, None] * entropy(toy().scores(theta))).sum(), theta)
    algorithm = reinforce(samples=1, baseline="none", entropy_coefficient=0.3)
    assert residual(expected_gradient(algorithm, torch.zeros(153, T, dtype=D)), right) < EXACT


def kl_gradient(forward: bool) -> Tensor:
    """d/dtheta of KL(pi || ref), or of KL(ref || pi)."""
    theta = toy().theta.clone().requires_grad_()
    pi, ref = toy().log_prob(theta).sum(1), toy().log_prob(toy().other).sum(1)
    return gradient((pi.exp() * (pi - ref)).sum() if forward else (ref.exp() * (ref - pi)).sum(), theta)


def test_kl_in_the_reward_is_the_gradient_of_kl() -> None:
    """Row 13 for what ships: Reinforce pays beta k1 per decision."""
    columns = {"log_prob": toy().log_prob(toy().theta), "reference_log_prob": toy().log_prob(toy().other)}
    nothing = torch.zeros(153, T, dtype=D)
    whole = expected_gradient(reinforce(samples=1, baseline="none", gamma=1.0, kl_coefficient=0.7), nothing, **columns)
    assert residual(whole, -0.7 * kl_gradient(forward=True)) < EXACT
    twin = expected_gradient(reinforce(samples=1, baseline="none", gamma=0.0, kl_coefficient=0.7), nothing, **columns)
    assert residual(twin, -0.7 * kl_gradient(forward=True)) > WRONG  # the future's share of the KL is missing


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [(kl_k1, "nothing"), (kl_k2, "forward"), (kl_k3, "reverse")],
)
def test_kl_as_a_loss(estimator: Any, expected: str) -> None:
    """Row 13: k1 has no expected gradient, k2 that of KL(pi || ref), k3 that of KL(ref || pi)."""
    theta = toy().theta.clone().requires_grad_()
    pi, ref = toy().log_prob(theta).sum(1), toy().log_prob(toy().other).sum(1)
    found = gradient((pi.detach().exp() * estimator(pi, ref)).sum(), theta)
    forward, reverse = kl_gradient(forward=True), kl_gradient(forward=False)
    assert residual(forward, reverse) > WRONG
    if expected == "nothing":
        assert found.abs().max() < 1e-12
    else:
        assert residual(found, forward if expected == "forward" else reverse) < EXACT


def test_the_tokens_ratios_sum_to_the_sequences() -> None:
    """Row 14."""
    per_token = kl_k1(toy().log_prob(toy().theta), toy().log_prob(toy().other)).sum(1)
    p, q = (toy().log_prob(theta).sum(1).exp() for theta in (toy().theta, toy().other))
    assert (per_token - (p / q).log()).abs().max() < 1e-10


# -- the optimum ---------------------------------------------------------------------------------------------------


def test_exact_policy_gradient_climbs_to_the_optimum() -> None:
    """Following the expected gradient of what ships ends at the sequence with F1 1."""
    theta = torch.zeros_like(toy().theta)
    algorithm = reinforce(samples=1, baseline="none", gamma=1.0)
    prepared = algorithm.prepare(batch(toy().action, 1, reward=toy().delta))
    for _ in range(300):
        theta.requires_grad_()
        chance = toy().log_prob(theta).detach().sum(1).exp()
        loss = algorithm.loss(Output(scores=toy().scores(theta), value=None), prepared, None)
        theta = (theta - 5.0 * gradient((chance[:, None] * loss).sum(), theta)).detach()
    chance = toy().log_prob(theta).sum(1).exp()
    assert float((chance * toy().f1).sum()) > 0.97
