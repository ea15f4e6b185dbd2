"""What any algorithm can be put through, a user's own too: ``checks`` gives the oracles that make sense for it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.chain import T, chain, fitted
from rlft_cli.oracles.toys.tagging import (
    Tagging,
    expected_gradient,
    off_direction,
    sentence,
    tagging,
    true_gradient,
    two_words,
)

D = torch.float64
KNOWN_READS = frozenset({"value", "dueling", "greedy", "reference"})
MOST_SAMPLES = 8  # groups of more cannot be enumerated
LENGTHS, ACTIONS = (3, 1, 4, 2), 5


def checks(algorithm: Algorithm, gamma: float | None) -> list[Oracle]:
    """The oracles of one algorithm, with it as their subject; ``gamma`` is what its settings say, None if nothing.

    A reward at the end is put only to policy gradients that do not discount it, and dynamic programming needs to know
    gamma. UsageError for an algorithm that cannot be put through them.
    """
    unknown = algorithm.reads - KNOWN_READS
    if unknown:
        raise UsageError(
            f"rlft verify cannot make what the algorithm reads: {', '.join(sorted(unknown))}; "
            f"it can make {', '.join(sorted(KNOWN_READS))}"
        )
    if algorithm.samples > MOST_SAMPLES:
        raise UsageError(
            f"groups of algo.samples={algorithm.samples} episodes cannot be enumerated; type algo.samples={MOST_SAMPLES} "
            "or less to verify the algorithm"
        )
    found = list(_COMMON)
    if algorithm.needs == "rewards" and algorithm.on_policy:
        found += _ON_POLICY if gamma in (None, 1.0) else _ON_POLICY[:2]
    elif algorithm.needs == "rewards" and "reference" not in algorithm.reads:
        found.append(_oracle_of_one_decision())
        if gamma is not None:
            found.append(_oracle_of_chain(gamma))
    return [replace(oracle, subject=algorithm) for oracle in found]


# -- every algorithm -----------------------------------------------------------------------------------------------


def _batch(algorithm: Algorithm, hidden: float) -> Trajectory:
    """4 observations of different lengths; what does not exist holds ``hidden``. Rewards are 0 or 1."""
    k = algorithm.samples
    chance = torch.Generator().manual_seed(101)
    lengths = torch.tensor(LENGTHS).repeat_interleave(k)
    mask = torch.arange(max(LENGTHS))[None, :] < lengths[:, None]
    action = torch.randint(ACTIONS - 1, mask.shape, generator=chance)
    start = blank({"id": torch.arange(len(LENGTHS))}, torch.where(mask, action, 0), mask)

    def column(values: Tensor) -> Tensor:
        return torch.where(mask, values, hidden)

    return replace(
        start,
        reward=column(torch.randint(2, mask.shape, generator=chance).to(D)),
        greedy_reward=column(torch.randint(2, mask.shape, generator=chance).to(D)),
        log_prob=column(-torch.rand(mask.shape, generator=chance, dtype=D)),
        reference_log_prob=column(-torch.rand(mask.shape, generator=chance, dtype=D)),
        value=column(torch.rand(mask.shape, generator=chance, dtype=D)),
        discount=start.discount.to(D),
    )


def _output(algorithm: Algorithm, rows: int, seed: int) -> Output:
    """Random scores [N, T, A], the last action illegal, and values where they are read."""
    chance = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, max(LENGTHS), ACTIONS, generator=chance, dtype=D)
    scores[..., -1] = ILLEGAL_SCORE
    value = torch.randn(rows, max(LENGTHS), generator=chance, dtype=D) if "value" in algorithm.reads else None
    return Output(scores=scores.requires_grad_(), value=value)


def _loss(algorithm: Algorithm, batch: Trajectory, output: Output) -> Tensor:
    target = _output(algorithm, len(batch.action), 103) if algorithm.uses_target else None
    return algorithm.loss(output, batch, target)


def _slope(algorithm: Algorithm, hidden: float) -> Tensor:
    """Gradient [N, T, A] of the summed loss in the scores."""
    algorithm.state.clear()
    batch = algorithm.prepare(_batch(algorithm, hidden)).without_masked()
    output = _output(algorithm, len(batch.action), 102)
    loss = _loss(algorithm, batch, output)
    (found,) = torch.autograd.grad(torch.where(batch.mask, loss, torch.zeros_like(loss)).sum(), output.scores)
    return found


def _nan_without_harm(algorithm: Algorithm) -> float:
    """Largest change of the gradient when everything that does not exist is NaN; infinite where NaN comes through."""
    clean, dirty = _slope(algorithm, 0.0), _slope(algorithm, math.nan)
    mask = _batch(algorithm, 0.0).mask
    beyond = float(clean[~mask].abs().max())
    return max(beyond, float((clean - dirty).abs().nan_to_num(nan=math.inf).max()))


def _unreduced(algorithm: Algorithm) -> float:
    """Largest gradient of an episode's loss in the scores of another; infinite where the loss is not [N, T]."""
    algorithm.state.clear()
    batch = algorithm.prepare(_batch(algorithm, 0.0)).without_masked()
    output = _output(algorithm, len(batch.action), 102)
    loss = _loss(algorithm, batch, output)
    if loss.shape != batch.action.shape:
        return math.inf
    worst = 0.0
    for n in range(len(loss)):
        (found,) = torch.autograd.grad(loss[n][batch.mask[n]].sum(), output.scores, retain_graph=True)
        found[n] = 0
        worst = max(worst, float(found.abs().max()))
    return worst


def _split(algorithm: Algorithm) -> float:
    """Largest difference between the loss of the whole batch and of its parts, prepared together (law 2)."""
    algorithm.state.clear()
    k = algorithm.samples
    batch = algorithm.prepare(_batch(algorithm, 0.0)).without_masked()
    output = _output(algorithm, len(batch.action), 102)
    target = _output(algorithm, len(batch.action), 103) if algorithm.uses_target else None
    whole, worst = algorithm.loss(output, batch, target), 0.0
    for rows in (torch.tensor([0]), torch.tensor([1, 3]), torch.tensor([2])):
        episodes = (rows[:, None] * k + torch.arange(k)[None, :]).reshape(-1)
        part = batch.select(rows)
        width = part.action.shape[1]
        outputs = [_part(one, episodes, width) for one in (output, target) if one is not None]
        loss = algorithm.loss(outputs[0], part, outputs[1] if target is not None else None)
        if loss.shape != part.action.shape or whole.shape != batch.action.shape:
            return math.inf
        away = (loss - whole[episodes, :width])[part.mask]
        worst = max(worst, float(away.detach().abs().max()))
    return worst


def _part(output: Output, episodes: Tensor, width: int) -> Output:
    value = None if output.value is None else output.value[episodes, :width]
    return replace(output, scores=output.scores[episodes, :width], value=value)


# -- policy gradients ----------------------------------------------------------------------------------------------


def _toy(algorithm: Algorithm) -> Tagging:
    return sentence() if algorithm.samples <= 2 else two_words()


def _one_decision(algorithm: Algorithm) -> float:
    """One tag, paid .9, .2 or .4: whatever gamma and credit are, only this reward counts."""
    toy = tagging(["O", "B-X", "B-Y"], ["B-X"])
    reward = torch.tensor([0.2, 0.9, 0.4], dtype=D)
    return _direction(algorithm, toy, reward[:, None])


def _no_coupling(algorithm: Algorithm) -> float:
    """Right tags of a sentence whose tags do not depend on one another: later rewards add noise only, for any gamma."""
    toy = tagging(["O", "B-X", "B-Y"], ["B-X", "O"])
    return _direction(algorithm, toy, toy.per_tag())


def _at_the_end(algorithm: Algorithm) -> float:
    toy = _toy(algorithm)
    return _direction(algorithm, toy, toy.at_end(toy.f1))


def _direction(algorithm: Algorithm, toy: Tagging, reward: Tensor) -> float:
    """Off the direction of the exact gradient, at the uniform policy, which is also the reference.

    There an entropy bonus and a KL have no gradient of their own; a positive factor is a matter of the learning rate. The
    value that a critic foresaw is the true one.
    """
    algorithm.state.clear()
    theta = torch.zeros_like(toy.theta)
    log_prob = toy.log_prob(theta)
    columns = {"log_prob": log_prob, "reference_log_prob": log_prob, "value": toy.foreseen(theta, reward)}
    found = expected_gradient(toy, algorithm, theta, reward, columns)
    return off_direction(found, true_gradient(toy, reward.sum(1), theta))


# -- values --------------------------------------------------------------------------------------------------------


def _mean_reward(algorithm: Algorithm) -> float:
    """values(scores) after 400 steps of Adam on one decision with 3 actions, paid 1 in 1, 5 and 9 of 10 episodes."""
    action = torch.arange(3).repeat_interleave(10)[:, None]
    paid = (torch.arange(10)[None, :] < torch.tensor([1, 5, 9])[:, None]).reshape(-1, 1).to(D)
    data = replace(blank({"id": torch.arange(30)}, action, torch.ones_like(action, dtype=torch.bool)), reward=paid)
    data = algorithm.prepare(data)
    table, steps = torch.zeros(3, dtype=D).requires_grad_(), 400
    optimizer = torch.optim.Adam([table], lr=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        optimizer.zero_grad()
        output = Output(scores=table.expand(30, 1, 3), value=None)
        target = replace(output, scores=output.scores.detach()) if algorithm.uses_target else None
        torch.autograd.backward(algorithm.loss(output, data, target).sum())
        optimizer.step()
    return float((algorithm.values(table.detach()) - torch.tensor([0.1, 0.5, 0.9], dtype=D)).abs().max())


def _oracle_of_one_decision() -> Oracle:
    return Oracle(
        name="algo_mean_reward",
        row=15,
        object="values of one decision",
        oracle="mean reward of each action",
        tolerance=1e-3,
        subject=None,
        distance=_mean_reward,
    )


def _oracle_of_chain(gamma: float) -> Oracle:
    def distance(algorithm: Algorithm) -> float:
        """Of values(scores) from Q*; rewards are brought into [.1, .9], so that a loss of 0/1 rewards can be used."""
        world = chain()
        low, high = float(world.reward.min()), float(world.reward.max())
        reward = 0.1 + 0.8 * (world.reward - low) / (high - low)
        paid = torch.where(world.data.mask, 0.1 + 0.8 * (world.data.reward - low) / (high - low), 0.0)
        found = algorithm.values(fitted(algorithm, replace(world.data, reward=paid)))
        return world.error(found, replace(world, reward=reward).optimal(gamma))

    return Oracle(
        name="algo_fixed_point",
        row=15,
        object=f"fixed point on two tag chains of up to {T} words, gamma {gamma:g}",
        oracle="Q* by dynamic programming",
        tolerance=1e-3,
        subject=None,
        distance=distance,
    )


_COMMON = (
    Oracle(
        name="algo_unreduced",
        row=1,
        object="loss is [N, T], each episode's its own",
        oracle="gradient in another episode's scores: 0",
        tolerance=1e-12,
        subject=None,
        distance=_unreduced,
    ),
    Oracle(
        name="algo_split",
        row=1,
        object="loss of a batch in parts",
        oracle="loss of the whole, prepared together",
        tolerance=1e-10,
        subject=None,
        distance=_split,
    ),
    Oracle(
        name="algo_masked",
        row=1,
        object="NaN in decisions that do not exist",
        oracle="the gradient with zeros there",
        tolerance=1e-12,
        subject=None,
        distance=_nan_without_harm,
    ),
)
_ON_POLICY = (
    Oracle(
        name="algo_one_decision",
        row=1,
        object="expected gradient of one decision",
        oracle="direction of the policy gradient, by enumeration",
        tolerance=1e-6,
        subject=None,
        distance=_one_decision,
    ),
    Oracle(
        name="algo_independent",
        row=1,
        object="expected gradient of decisions that do not depend on one another",
        oracle="direction of the policy gradient, by enumeration",
        tolerance=1e-6,
        subject=None,
        distance=_no_coupling,
    ),
    Oracle(
        name="algo_at_the_end",
        row=1,
        object="expected gradient of a reward at the end",
        oracle="direction of the policy gradient, by enumeration",
        tolerance=1e-6,
        subject=None,
        distance=_at_the_end,
    ),
)
