"""Laws of every algorithm: a loss [N, T] of each episode alone, the same in parts, blind to what does not exist."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.model import Output
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.algorithms.outputs import made, width

D = torch.float64
LENGTHS, ACTIONS = (3, 1, 4, 2), 5
COMPARISONS, REPLIES = (1, 0, 1, 1), 2  # lengths and actions where a decision is one between two replies


def _compares(algorithm: Algorithm) -> bool:
    return algorithm.decisions == ("pairs",)


def _each(algorithm: Algorithm) -> int:
    """Episodes of an observation."""
    return 2 if "pairs" in algorithm.reads else algorithm.samples


def _batch(algorithm: Algorithm, hidden: float) -> Trajectory:
    """4 observations of different lengths; what does not exist holds ``hidden``. Rewards are 0 or 1."""
    sizes = COMPARISONS if _compares(algorithm) else LENGTHS
    chance = torch.Generator().manual_seed(101)
    lengths = torch.tensor(sizes).repeat_interleave(_each(algorithm))
    mask = torch.arange(max(sizes))[None, :] < lengths[:, None]
    action = torch.randint(REPLIES if _compares(algorithm) else ACTIONS - 1, mask.shape, generator=chance)
    start = blank({"id": torch.arange(len(sizes))}, torch.where(mask, action, 0), mask)

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


def _output(algorithm: Algorithm, rows: int, seed: int) -> tuple[Output, Tensor]:
    """Random output of ``rows`` episodes, its last action illegal (of two replies, none), and the numbers it is made of."""
    chance = torch.Generator().manual_seed(seed)
    steps, actions = (max(COMPARISONS), REPLIES) if _compares(algorithm) else (max(LENGTHS), ACTIONS)
    shape = (rows, steps, actions, width(algorithm))
    numbers = torch.randn(shape, generator=chance, dtype=D).requires_grad_()
    output = made(algorithm, numbers)
    if _compares(algorithm):
        return output, numbers
    last = torch.arange(ACTIONS) == ACTIONS - 1
    return replace(output, scores=output.scores.masked_fill(last, ILLEGAL_SCORE)), numbers


def _loss(algorithm: Algorithm, batch: Trajectory, output: Output) -> Tensor:
    return algorithm.loss(output, batch, _target(algorithm, len(batch.action)))


def _target(algorithm: Algorithm, rows: int) -> Output | None:
    """What a lagging copy says: no gradient goes through it."""
    if not algorithm.uses_target:
        return None
    with torch.no_grad():
        return _output(algorithm, rows, 103)[0]


def _slope(algorithm: Algorithm, hidden: float) -> Tensor:
    """Gradient [N, T, A, n] of the summed loss in all that the policy says."""
    algorithm.state.clear()
    batch = algorithm.prepare(_batch(algorithm, hidden)).without_masked()
    output, numbers = _output(algorithm, len(batch.action), 102)
    loss = _loss(algorithm, batch, output)
    (found,) = torch.autograd.grad(torch.where(batch.mask, loss, torch.zeros_like(loss)).sum(), numbers)
    return found


def _nan_without_harm(algorithm: Algorithm) -> float:
    """Largest change of the gradient when everything that does not exist is NaN; infinite where NaN comes through."""
    clean, dirty = _slope(algorithm, 0.0), _slope(algorithm, math.nan)
    mask = _batch(algorithm, 0.0).mask
    beyond = float(clean[~mask].abs().max())
    return max(beyond, float((clean - dirty).abs().nan_to_num(nan=math.inf).max()))


def _unreduced(algorithm: Algorithm) -> float:
    """Largest gradient of an episode's loss in what is said of another (of another pair); infinite where it is not [N, T]."""
    algorithm.state.clear()
    batch = algorithm.prepare(_batch(algorithm, 0.0)).without_masked()
    output, numbers = _output(algorithm, len(batch.action), 102)
    loss = _loss(algorithm, batch, output)
    if loss.shape != batch.action.shape:
        return math.inf
    worst, together = 0.0, 2 if "pairs" in algorithm.reads else 1
    for n in range(len(loss)):
        (found,) = torch.autograd.grad(loss[n][batch.mask[n]].sum(), numbers, retain_graph=True)
        found[n - n % together : n - n % together + together] = 0
        worst = max(worst, float(found.abs().max()))
    return worst


def _split(algorithm: Algorithm) -> float:
    """Largest difference between the loss of the whole batch and of its parts, prepared together (law 2)."""
    algorithm.state.clear()
    k = _each(algorithm)
    batch = algorithm.prepare(_batch(algorithm, 0.0)).without_masked()
    output, _ = _output(algorithm, len(batch.action), 102)
    target = _target(algorithm, len(batch.action))
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
    value, heads = (None if x is None else x[episodes, :width] for x in (output.value, output.heads))
    return Output(scores=output.scores[episodes, :width], value=value, heads=heads)


EVERY = (
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
