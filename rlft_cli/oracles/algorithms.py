"""What any algorithm can be put through, a user's own too: ``checks`` gives the oracles that make sense for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from rlft_cli.model.head import Numbers
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
from rlft_cli.returns import categorical_mean

D = torch.float64
KNOWN_READS = frozenset(
    {"value", "dueling", "greedy", "reference", "propensity", "chance", "pairs", "search", "tokens"}
)
NUMBERS = ("heads:", "quantiles:", "atoms:")  # more numbers of each action (model/head.py), which can be made too
MOST_SAMPLES = 8  # groups of more cannot be enumerated
LENGTHS, ACTIONS = (3, 1, 4, 2), 5
COMPARISONS, REPLIES = (1, 0, 1, 1), 2  # lengths and actions where a decision is one between two replies
TOKENS = 3  # of a reply, where rewards after each token are read


def checks(algorithm: Algorithm, settings: Mapping[str, Any]) -> list[Oracle]:
    """The oracles of one algorithm, with it as their subject; ``settings`` are the keys of its YAML.

    A reward at the end is put only to policy gradients that do not discount it, mean rewards only to algorithms that say
    that their values are such, and dynamic programming needs to know gamma. UsageError for an algorithm that cannot be
    put through them.
    """
    unknown = [name for name in algorithm.reads if name not in KNOWN_READS and not name.startswith(NUMBERS)]
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
        found += _ON_POLICY if settings.get("gamma") in (None, 1.0) else _ON_POLICY[:2]
    elif "search" in algorithm.reads:
        found.append(_oracle_of_imitation(settings))
    elif algorithm.needs == "rewards" and "reference" not in algorithm.reads:
        found.append(_BEST_ACTION)
        if _learns_means(algorithm, settings):
            found.append(_oracle_of_one_decision())
            if "gamma" in settings:
                found.append(_oracle_of_chain(float(settings["gamma"])))
    return [replace(oracle, subject=algorithm) for oracle in found]


def _learns_means(algorithm: Algorithm, settings: Mapping[str, Any]) -> bool:
    """Whether values are mean returns: not logits of a policy (those of filtered_bc too, which alone has a threshold) or
    means of a distribution, not held down (CQL), not with an entropy (Munchausen), and not of a stream that goes on
    (DQNimb, the only one that is for classes alone)."""
    policy = "propensity" in algorithm.reads or "threshold" in settings
    other = policy or any(name.startswith(NUMBERS) for name in algorithm.reads)
    moved = float(settings.get("cql_coefficient", 0.0)) > 0 or settings.get("backup") == "munchausen"
    return not other and not moved and algorithm.decisions != ("classes",)


# -- every algorithm -----------------------------------------------------------------------------------------------


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


def _made(algorithm: Algorithm, numbers: Tensor) -> Output:
    """What a policy says, made of ``numbers`` [N, T, A, 2 + n]: scores, values (of action 0), and what is read beside them."""
    told, scores, heads = Numbers.of(algorithm.reads), numbers[..., 0], None
    if told.quantiles:
        heads = numbers[..., 2:]
        scores = heads.mean(-1)
    elif told.atoms:
        heads = numbers[..., 2:]
        scores = categorical_mean(heads, torch.linspace(told.low, told.high, told.atoms, dtype=D))
    elif told.heads or "tokens" in algorithm.reads:
        heads = numbers[..., 2:]
    return Output(scores=scores, value=numbers[..., 0, 1] if "value" in algorithm.reads else None, heads=heads)


def _width(algorithm: Algorithm) -> int:
    told = Numbers.of(algorithm.reads)
    return 2 + max(told.heads, told.quantiles, told.atoms, TOKENS if "tokens" in algorithm.reads else 0)


def _output(algorithm: Algorithm, rows: int, seed: int) -> tuple[Output, Tensor]:
    """Random output of ``rows`` episodes, its last action illegal (of two replies, none), and the numbers it is made of."""
    chance = torch.Generator().manual_seed(seed)
    steps, actions = (max(COMPARISONS), REPLIES) if _compares(algorithm) else (max(LENGTHS), ACTIONS)
    shape = (rows, steps, actions, _width(algorithm))
    numbers = torch.randn(shape, generator=chance, dtype=D).requires_grad_()
    output = _made(algorithm, numbers)
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


_CHANCES = torch.tensor([0.1, 0.5, 0.9], dtype=D)  # with which each of 3 actions is paid 1, else 0


def _learned(algorithm: Algorithm) -> Tensor:
    """values(scores) [3] after a decision was taken 10 times each way with chance 1/3."""
    action = torch.arange(3).repeat_interleave(10)
    return _after_steps(algorithm, action, (torch.arange(10)[None, :] < 10 * _CHANCES[:, None]).reshape(-1).to(D))


def _after_steps(algorithm: Algorithm, taken: Tensor, rewards: Tensor) -> Tensor:
    """values(scores) [3] after 400 steps of Adam on one decision between 3 actions, taken [30] with rewards [30]."""
    action, paid = taken[:, None], rewards[:, None]
    start = blank({"id": torch.arange(30)}, action, torch.ones_like(action, dtype=torch.bool))
    data = replace(start, reward=paid, log_prob=torch.full_like(paid, -math.log(3)))
    algorithm.state.clear()
    data = algorithm.prepare(data)
    table, steps = torch.zeros(3, _width(algorithm), dtype=D).requires_grad_(), 400
    optimizer = torch.optim.Adam([table], lr=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        optimizer.zero_grad()
        output = _made(algorithm, table.expand(30, 1, 3, -1))
        target = _made(algorithm, table.detach().expand(30, 1, 3, -1)) if algorithm.uses_target else None
        torch.autograd.backward(algorithm.loss(output, data, target).sum())
        optimizer.step()
    return algorithm.values(_made(algorithm, table.detach()[None, None]).scores[0, 0])


def _mean_reward(algorithm: Algorithm) -> float:
    return float((_learned(algorithm) - _CHANCES).abs().max())


def _best_action(algorithm: Algorithm) -> float:
    """What the action of the highest value earns less than the best."""
    return float(_CHANCES.max() - _CHANCES[_learned(algorithm).argmax()])


def _oracle_of_imitation(settings: Mapping[str, Any]) -> Oracle:
    """Of choices that were all paid above the threshold; with one in ten that was not, where there is a threshold."""
    threshold = settings.get("threshold")

    def distance(algorithm: Algorithm) -> float:
        taken = torch.tensor([0] * 15 + [1] * 9 + [2] * 6)
        paid = torch.full((30,), 1.0 + (threshold or 0.0), dtype=D)
        if threshold is not None:
            taken[[0, 1, 2]], paid[[0, 1, 2]] = 2, float(threshold)
        good = taken[paid > threshold] if threshold is not None else taken
        right = torch.bincount(good, minlength=3) / len(good)
        return float((torch.softmax(_after_steps(algorithm, taken, paid), -1) - right).abs().max())

    return Oracle(
        name="algo_imitation",
        row=34,
        object="policy of one decision, after what searches chose",
        oracle="share of each action among the choices that were good enough",
        tolerance=1e-3,
        subject=None,
        distance=distance,
    )


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


_BEST_ACTION = Oracle(
    name="algo_best_action",
    row=15,
    object="action that it finds best, of one decision",
    oracle="action of the highest mean reward",
    tolerance=0.0,
    subject=None,
    distance=_best_action,
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
