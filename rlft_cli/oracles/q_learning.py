"""Q-learning: where it settles, against dynamic programming on two tag chains (METHODS 7.1, rows 15 to 19, 22, 27)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo.dqn import Dqn
from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.memory import Memory
from rlft_cli.memory.replay import Replay
from rlft_cli.model import Output
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.chain import DQN, GAMMA, LENGTHS, D, K, T, chain, fitted, start_table
from rlft_cli.returns import double_backup, dueling, max_backup

Backup = Callable[[Tensor, Tensor], Tensor]
ESTIMATES, DRAWS, ACTIONS, REPEATS = 10, 1.0, 9, 20_000  # draws behind each estimate, their std, actions, problems


def _optimal(algorithm: Dqn) -> float:
    return chain().error(fitted(algorithm, chain().data), chain().optimal(GAMMA))


def _myopic(algorithm: Dqn) -> float:
    """With gamma 0 the reward is learned; where that is the optimum too, the chain would prove nothing."""
    found = chain().error(fitted(algorithm, chain().data), chain().reward)
    return found if chain().error(chain().reward, chain().optimal(GAMMA)) > 0.5 else 1.0


def _replayed(new_memory: Callable[[], Memory]) -> float:
    """800 updates of 16 episodes drawn from the memory, in float32 rewards."""
    world, memory = chain(), new_memory()
    memory.add(world.data, [1] * len(world.sentence))
    chance = torch.Generator().manual_seed(5)
    table, steps = start_table().requires_grad_(), 800
    optimizer = torch.optim.Adam([table], lr=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        batch = memory.sample(1 << 30, 16, chance)
        ids, width = batch.observation["id"], batch.action.shape[1]
        scores = world.scores(table)[ids, :width]
        loss = DQN.loss(Output(scores=scores, value=None), DQN.prepare(batch), None)
        optimizer.zero_grad()
        torch.autograd.backward(torch.where(batch.mask, loss, 0.0).sum())
        optimizer.step()
    return world.error(table.detach(), world.optimal(GAMMA))


def _n_step(algorithms: tuple[Dqn, ...]) -> float:
    """Distance from the n-step fixed point of the paths; and what is missing for a distance of .2 from Q*."""
    error = 0.0
    for algorithm in algorithms:
        found = fitted(algorithm, chain().data)
        error = max(error, chain().error(found, _n_step_fixed_point(algorithm.n_step)))
        error = max(error, 0.2 - chain().error(found, chain().optimal(GAMMA)))
    return error


def _n_step_fixed_point(n: int) -> Tensor:
    """Means over the paths of n rewards and the best value after them, from the end of the sentences on."""
    world = chain()
    table = torch.zeros(2, T, K + 1, K, dtype=D)
    for t in reversed(range(max(LENGTHS))):
        best = world.scores(table).amax(-1)  # [N, T]
        total = torch.zeros(len(best), dtype=D)
        for i in range(n):
            if t + i < T:
                total = total + GAMMA**i * world.data.reward[:, t + i]
        if t + n < T:
            total = total + GAMMA**n * torch.where(world.data.mask[:, t + n], best[:, t + n], 0.0)
        quantity = torch.zeros_like(best)
        quantity[:, t] = total
        table[:, t] = world.mean_over_paths(quantity)[:, t]
    return table


def _lagging(algorithm: Dqn) -> float:
    """The loss of r + gamma V(the lagging copy) under any online scores."""
    world = chain()
    old = start_table()
    value = world.scores(old).amax(-1)
    later = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], 1)
    right = world.data.reward + GAMMA * world.data.discount * later
    scores = world.scores(torch.full_like(old, 5.0)).scatter(-1, world.data.action[..., None], right[..., None])
    target = Output(scores=world.scores(old), value=None)
    loss = algorithm.loss(Output(scores=scores, value=None), world.data, target)
    return float(loss[world.data.mask].max())


def _no_gradient(algorithm: Dqn) -> float:
    """Largest gradient in the scores of actions that were not taken."""
    data = chain().data
    scores = chain().scores(start_table()).requires_grad_()
    loss = algorithm.loss(Output(scores=scores, value=None), data, None)
    (found,) = torch.autograd.grad(torch.where(data.mask, loss, 0.0).sum(), scores)
    taken = torch.zeros_like(found, dtype=torch.bool).scatter(-1, data.action[..., None], True)
    return float(found[~(taken & data.mask[..., None])].abs().max())


def _estimates() -> tuple[Tensor, Tensor]:
    """Two independent estimates [R, 1, A] of values that are all 0, each the mean of 10 draws."""
    chance = torch.Generator().manual_seed(7)
    scale = DRAWS / ESTIMATES**0.5
    return (
        scale * torch.randn(REPEATS, 1, ACTIONS, generator=chance, dtype=D),
        scale * torch.randn(REPEATS, 1, ACTIONS, generator=chance, dtype=D),
    )


def _expected_maximum() -> float:
    """E of the largest of 9 standard normals, times the std of an estimate: .46960 (by quadrature)."""
    x = torch.linspace(-9, 9, 200_001, dtype=D)
    density = ACTIONS * torch.special.ndtr(x) ** (ACTIONS - 1) * torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5
    mean = float(torch.trapezoid(x * density, x))
    return mean * DRAWS / float(ESTIMATES**0.5)


def _z(value: Tensor, mean: float) -> float:
    return float((value.mean() - mean) / (value.std() / value.numel() ** 0.5))


def _overestimates(backup: Backup) -> float:
    one, other = _estimates()
    return abs(_z(backup(one, other), _expected_maximum()))


def _does_not(backup: Backup) -> float:
    return abs(_z(backup(*_estimates()), 0.0))


def _dueling(combine: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
    """Unchanged by a shift of A; the mean over legal actions is V."""
    chance = torch.Generator().manual_seed(8)
    advantage, value = torch.randn(50, 5, generator=chance, dtype=D), torch.randn(50, 1, generator=chance, dtype=D)
    legal = torch.rand(50, 5, generator=chance) > 0.4
    legal[:, 0] = True
    q = combine(value, torch.where(legal, advantage, ILLEGAL_SCORE), legal)
    shifted = combine(value, torch.where(legal, advantage + 4.2, ILLEGAL_SCORE), legal)
    mean = torch.where(legal, q, 0.0).sum(-1) / legal.sum(-1)
    return float(torch.maximum((shifted - q)[legal].abs().max(), (mean - value[:, 0]).abs().max()))


_DP = "Q* by dynamic programming"

ORACLES = (
    Oracle(
        name="dqn",
        row=15,
        object="fixed point of DQN on all paths",
        oracle=_DP,
        tolerance=1e-4,
        subject=DQN,
        distance=_optimal,
    ),
    Oracle(
        name="dqn_gamma_0",
        row=15,
        object="fixed point of DQN with gamma 0",
        oracle="the reward, which is not Q*",
        tolerance=1e-4,
        subject=replace(DQN, gamma=0.0),
        distance=_myopic,
    ),
    Oracle(
        name="dqn_double",
        row=16,
        object="fixed point of double DQN, Huber loss",
        oracle=_DP,
        tolerance=1e-4,
        subject=replace(DQN, backup="double", loss_kind="huber"),
        distance=_optimal,
    ),
    Oracle(
        name="dqn_replay",
        row=17,
        object="DQN on batches of 16 drawn from a uniform replay",
        oracle=_DP,
        tolerance=1e-3,
        subject=lambda: Replay(capacity=1000, warmup_episodes=1, replay_ratio=1),
        distance=_replayed,
    ),
    Oracle(
        name="dqn_n_step",
        row=18,
        object="fixed point of n-step DQN, n 2 and T",
        oracle="n-step values of the behaviour, not Q*",
        tolerance=1e-4,
        subject=(replace(DQN, n_step=2), replace(DQN, n_step=T)),
        distance=_n_step,
    ),
    Oracle(
        name="dqn_target",
        row=15,
        object="DQN bootstraps from the lagging copy",
        oracle="r + gamma max of its scores",
        tolerance=1e-12,
        subject=DQN,
        distance=_lagging,
    ),
    Oracle(
        name="dqn_stop_gradient",
        row=15,
        object="no gradient flows into the target",
        oracle="0 for actions that were not taken",
        tolerance=0.0,
        subject=DQN,
        distance=_no_gradient,
    ),
    Oracle(
        name="overestimation",
        row=22,
        object="bias of the max backup, z of 20,000 problems",
        oracle="sigma / sqrt(n) E[max of 9 normals] = .46960",
        tolerance=5.0,
        subject=lambda one, other: max_backup(one),
        distance=_overestimates,
    ),
    Oracle(
        name="double_overestimation",
        row=22,
        object="bias of the double backup where all values are equal, z",
        oracle="0",
        tolerance=5.0,
        subject=double_backup,
        distance=_does_not,
    ),
    Oracle(
        name="dueling",
        row=27,
        object="dueling Q",
        oracle="blind to a shift of A; mean over legal actions is V",
        tolerance=1e-6,
        subject=dueling,
        distance=_dueling,
    ),
)
