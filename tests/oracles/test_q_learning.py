"""Q-learning against dynamic programming on problems small enough to enumerate (METHODS 7.1, rows 15-21)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.model import Output
from rlft_cli.model.words import legal_transitions
from toy_training import dqn

TAGS = ["O", "B-X", "I-X"]
LENGTHS = (3, 4)  # words of the two sentences
T, K = 6, 3  # padded to 6 decisions, so that something lies beyond every end
GAMMA = 0.8
D = torch.float64


@dataclass(frozen=True)
class Chain:
    """Two tag chains whose reward depends on word, previous tag and tag; every legal path once."""

    reward: Tensor  # [2, 4, 4, 3] of sentence, word, previous tag, tag
    legal: Tensor  # [4, 3]
    sentence: Tensor  # [N]
    data: Trajectory

    def index(self) -> tuple[Tensor, Tensor, Tensor]:
        start = torch.full_like(self.data.action[:, :1], K)
        previous = torch.cat([start, self.data.action[:, :-1]], 1)
        return self.sentence[:, None].expand_as(previous), torch.arange(T)[None, :].expand_as(previous), previous

    def scores(self, table: Tensor) -> Tensor:
        """Q [N, T, K] of every state on every path, from the table [2, T, 4, 3]."""
        previous = self.index()[2]
        return table[self.index()].masked_fill(~self.legal[previous], ILLEGAL_SCORE)

    def optimal(self, gamma: float) -> Tensor:
        """Q* [2, 4, 4, 3] by dynamic programming from the end."""
        q = torch.zeros(2, max(LENGTHS), K + 1, K, dtype=D)
        for s, length in enumerate(LENGTHS):
            for t in reversed(range(length)):
                for p, a in itertools.product(range(K + 1), range(K)):
                    following = q[s, t + 1, a][self.legal[a]].max() if t + 1 < length else 0.0
                    q[s, t, p, a] = self.reward[s, t, p, a] + gamma * following
        return q

    def visited(self) -> Tensor:
        """Which entries [2, T, 4, 3] lie on some legal path."""
        seen = torch.zeros(2, T, K + 1, K, dtype=torch.bool)
        sentence, t, previous = (x[self.data.mask] for x in self.index())
        seen[sentence, t, previous, self.data.action[self.data.mask]] = True
        return seen


@cache
def chain() -> Chain:
    chance = torch.Generator().manual_seed(1)
    legal = legal_transitions(TAGS)
    reward = torch.rand(2, max(LENGTHS), K + 1, K, generator=chance, dtype=D)
    reward -= 0.8 * torch.eye(K + 1, K, dtype=D)  # repeating a tag costs: greedy by the reward alone is not optimal
    paths = [
        (s, path)
        for s, length in enumerate(LENGTHS)
        for path in itertools.product(range(K), repeat=length)
        if all(bool(legal[p, a]) for p, a in zip((K, *path[:-1]), path, strict=True))
    ]
    action = torch.zeros(len(paths), T, dtype=torch.int64)
    mask, paid = torch.zeros(len(paths), T, dtype=torch.bool), torch.zeros(len(paths), T, dtype=D)
    for n, (s, path) in enumerate(paths):
        for t, (p, a) in enumerate(zip((K, *path[:-1]), path, strict=True)):
            action[n, t], mask[n, t], paid[n, t] = a, True, reward[s, t, p, a]
    data = replace(blank({"id": torch.arange(len(paths))}, action, mask), reward=paid)
    data = replace(data, discount=data.discount.to(D))
    return Chain(reward=reward, legal=legal, sentence=torch.tensor([s for s, _ in paths]), data=data)


def fitted(algorithm: Any, data: Trajectory, steps: int = 400) -> Tensor:
    """Table that Adam reaches on all paths; the target is the table itself, without gradient."""
    chance = torch.Generator().manual_seed(2)
    table = torch.randn(2, T, K + 1, K, generator=chance, dtype=D).requires_grad_()
    optimizer = torch.optim.Adam([table], lr=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        loss = algorithm.loss(Output(scores=chain().scores(table), value=None), data, None)
        optimizer.zero_grad()
        torch.where(data.mask, loss, 0.0).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return table.detach()


def error(table: Tensor, right: Tensor) -> float:
    width = right.shape[1]
    return float((table[:, :width] - right)[chain().visited()[:, :width]].abs().max())


@pytest.mark.parametrize("kind", ["mse", "huber"])
@pytest.mark.parametrize("backup", ["max", "double"])
def test_the_fixed_point_is_the_optimum(backup: str, kind: str) -> None:
    """Rows 15 and 16."""
    algorithm = dqn(gamma=GAMMA, loss_kind=kind, backup=backup)
    assert error(fitted(algorithm, chain().data), chain().optimal(GAMMA)) < 1e-4


def test_the_optimum_needs_foresight() -> None:
    """Else the rows above would prove little: gamma 0 learns the reward, and the two disagree on what is best."""
    myopic = fitted(dqn(gamma=0.0, loss_kind="mse"), chain().data)
    assert error(myopic, chain().reward) < 1e-4
    best, first = chain().optimal(GAMMA), chain().reward
    assert (best[:, :2].argmax(-1) != first[:, :2].argmax(-1)).any()
    assert error(myopic, best) > 0.5


@pytest.mark.parametrize("bug", ["last reward dropped", "bootstrap beyond the end", "no legality mask"])
def test_bugs_at_the_end_are_found(bug: str) -> None:
    """Row 19, the mutation twins."""
    data = chain().data
    algorithm = dqn(gamma=GAMMA, loss_kind="mse", backup="max")
    last = data.mask & (data.discount == 0)
    if bug == "last reward dropped":
        data = replace(data, reward=torch.where(last, 0.0, data.reward))
    elif bug == "bootstrap beyond the end":
        data = replace(data, discount=torch.ones_like(data.discount))
    else:
        table = chain().optimal(GAMMA)
        padded = torch.zeros(2, T, K + 1, K, dtype=D)
        padded[:, : table.shape[1]] = table
        padded[:, :, [0, K], 2] = 9.0  # I-X after O or at the start: never visited, never learned
        loose = padded[chain().index()]
        loss = algorithm.loss(Output(scores=loose, value=None), data, None)
        right = algorithm.loss(Output(scores=chain().scores(padded), value=None), data, None)
        assert right[data.mask].max() < 1e-20 and loss[data.mask].max() > 0.5
        return
    assert error(fitted(algorithm, data), chain().optimal(GAMMA)) > 0.2


def test_n_step_targets_learn_the_behaviour_and_not_the_optimum() -> None:
    """Row 18, with n = T: the mean return of the paths through each state and action."""
    data = chain().data
    sums, counts = torch.zeros(2, T, K + 1, K, dtype=D), torch.zeros(2, T, K + 1, K, dtype=D)
    for n in range(len(data.action)):
        length, running = int(data.mask[n].sum()), 0.0
        for t in reversed(range(length)):
            running = float(data.reward[n, t]) + GAMMA * running
            place = (chain().sentence[n], t, data.action[n, t - 1] if t else K, data.action[n, t])
            sums[place] += running
            counts[place] += 1
    found = fitted(dqn(gamma=GAMMA, loss_kind="mse", n_step=T), data)
    assert error(found, sums / counts.clamp(min=1)) < 1e-4
    assert error(found, chain().optimal(GAMMA)) > 0.2


def test_a_lagging_target_is_what_is_bootstrapped_from() -> None:
    """With a target of zeros the fixed point is the reward, whatever the online scores say."""
    data, scores = chain().data, chain().scores(torch.full((2, T, K + 1, K), 5.0, dtype=D))
    table = torch.zeros(2, T, K + 1, K, dtype=D)
    table[:, : max(LENGTHS)] = chain().reward
    zero = Output(scores=chain().scores(torch.zeros(2, T, K + 1, K, dtype=D)), value=None)
    algorithm = dqn(gamma=GAMMA, loss_kind="mse")
    assert algorithm.loss(Output(scores=chain().scores(table), value=None), data, zero)[data.mask].max() < 1e-20
    assert algorithm.loss(Output(scores=scores, value=None), data, zero)[data.mask].min() > 1


def test_no_gradient_flows_into_the_target() -> None:
    data = chain().data
    table = torch.randn(2, T, K + 1, K, dtype=D).requires_grad_()
    scores = chain().scores(table)
    scores.retain_grad()
    loss = dqn(gamma=GAMMA, loss_kind="mse").loss(Output(scores=scores, value=None), data, None)
    torch.where(data.mask, loss, 0.0).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, data.action[..., None], True) & data.mask[..., None]
    assert (scores.grad[~chosen] == 0).all()


# -- row 21: KL control around a reference -------------------------------------------------------------------------

STEPS, V, EOS = 4, 3, 0
BETA = 0.4


@dataclass(frozen=True)
class Tree:
    """Every reply of up to 4 tokens over 3, ended by eos, with a reference policy, a reward, and the exact solution."""

    data: Trajectory
    reference: Tensor  # [N, T, V] log pi_ref along every reply
    best: Tensor  # [N, T, V] log pi* along every reply
    value: Tensor  # [N, T] V* along every reply


def replies(prefix: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if len(prefix) == STEPS or (prefix and prefix[-1] == EOS):
        return [prefix]
    return [reply for token in range(V) for reply in replies((*prefix, token))]


@cache
def tree() -> Tree:
    chance = torch.Generator().manual_seed(3)
    every = replies()
    prefixes = sorted({reply[:t] for reply in every for t in range(len(reply))})
    ref = {p: torch.log_softmax(torch.randn(V, generator=chance, dtype=D), 0) for p in prefixes}
    paid = {reply: float(torch.rand((), generator=chance, dtype=D)) for reply in every}
    below = {
        p: torch.logsumexp(
            torch.stack(
                [
                    sum(ref[r[:t]][r[t]] for t in range(len(p), len(r))) + paid[r] / BETA
                    for r in every
                    if r[: len(p)] == p
                ]
            ),
            0,
        )
        for p in prefixes
    }  # log sum over continuations of pi_ref exp(R / beta), by enumeration and not by recursion

    def ahead(p: tuple[int, ...], token: int) -> Tensor:
        reply = (*p, token)
        return torch.tensor(paid[reply] / BETA, dtype=D) if reply in paid else below[reply]

    best = {p: torch.stack([ref[p][a] + ahead(p, a) - below[p] for a in range(V)]) for p in prefixes}
    width = max(map(len, every))
    action, mask = torch.zeros(len(every), width, dtype=torch.int64), torch.zeros(len(every), width, dtype=torch.bool)
    reward, value = torch.zeros(len(every), width, dtype=D), torch.full((len(every), width), 7.0, dtype=D)
    log_ref, log_best = torch.zeros(len(every), width, V, dtype=D), torch.zeros(len(every), width, V, dtype=D)
    for n, reply in enumerate(every):
        for t, token in enumerate(reply):
            p = reply[:t]
            action[n, t], mask[n, t] = token, True
            log_ref[n, t], log_best[n, t], value[n, t] = ref[p], best[p], BETA * below[p]
        reward[n, len(reply) - 1] = paid[reply]
    start = blank({"id": torch.arange(len(every))}, action, mask)
    chosen = log_ref.gather(-1, action[..., None]).squeeze(-1)
    data = replace(start, reward=reward, discount=start.discount.to(D), reference_log_prob=chosen)
    return Tree(data=data, reference=log_ref, best=log_best, value=value)


def soft_loss(scores: Tensor, value: Tensor, n_step: int, target: Output | None = None) -> Tensor:
    algorithm = dqn(gamma=1.0, loss_kind="mse", backup="soft", n_step=n_step, kl_coefficient=BETA)
    data = tree().data
    return algorithm.loss(Output(scores=scores, value=value), data, target)[data.mask]


def test_the_tree_is_solved() -> None:
    """pi*(y) = pi_ref(y) exp(R / beta) / Z over whole replies, and it is a distribution at every prefix."""
    data = tree().data
    assert (torch.logsumexp(tree().best, -1)[data.mask]).abs().max() < 1e-12
    pick = data.action[..., None]
    pi, ref = (
        torch.where(data.mask, x.gather(-1, pick).squeeze(-1), 0.0).sum(1) for x in (tree().best, tree().reference)
    )
    weight = ref.exp() * (data.reward.sum(1) / BETA).exp()
    assert (pi.exp() - weight / weight.sum()).abs().max() < 1e-12
    assert abs(float(tree().value[0, 0]) - BETA * float(weight.sum().log())) < 1e-12


@pytest.mark.parametrize("n_step", [1, 2, 3, STEPS, 50])
def test_soft_q_has_no_loss_at_the_tilted_reference(n_step: int) -> None:
    """Row 21: zero on every reply, good or bad, for every n: no behaviour policy is assumed."""
    assert soft_loss(tree().best, tree().value, n_step).max() < 1e-20
    shifted = tree().best + torch.randn(*tree().value.shape, 1, dtype=D)  # scores are logits: a shift is nothing
    assert soft_loss(shifted, tree().value, n_step).max() < 1e-20


@pytest.mark.parametrize("n_step", [1, 2, STEPS])
def test_soft_q_has_a_loss_elsewhere(n_step: int) -> None:
    """The twins: the reference itself with its own value, a greedier policy, the right policy with another value."""
    data = tree().data
    mean = torch.where(data.mask, tree().value, 0.0)
    assert soft_loss(tree().reference, mean, n_step).max() > 1e-3
    assert soft_loss(1.5 * tree().best, tree().value, n_step).max() > 1e-3
    assert soft_loss(tree().best, tree().value + 0.3, n_step).max() > 1e-3


@pytest.mark.parametrize("n_step", [1, STEPS])
def test_soft_q_learns_the_tilted_reference(n_step: int) -> None:
    """From the reference, on all replies, Adam arrives at pi* and V* (a table with one row per prefix)."""
    every = replies()
    prefixes = sorted({reply[:t] for reply in every for t in range(len(reply))})
    number = {p: n for n, p in enumerate(prefixes)}
    width = tree().data.action.shape[1]
    index = torch.tensor([[number[reply[: min(t, len(reply) - 1)]] for t in range(width)] for reply in every])
    mask = tree().data.mask
    logits, value = torch.zeros(len(prefixes), V, dtype=D), torch.zeros(len(prefixes), dtype=D)
    logits[index[mask]] = tree().reference[mask]
    logits.requires_grad_(), value.requires_grad_()
    optimizer = torch.optim.Adam([logits, value], lr=0.1)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 600)
        loss = soft_loss(logits[index], value[index], n_step).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = torch.log_softmax(logits.detach()[index], -1)
    assert (found - tree().best)[mask].exp().sub(1).abs().max() < 1e-3
    assert (value.detach()[index] - tree().value)[mask].abs().max() < 1e-3
