"""learn(): the one loop. Roll out or demonstrate, reward, feedback, remember, prepare, update, yield."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rlft_cli.algo import Algorithm
from rlft_cli.episode import Trajectory, blank, demonstrate, rollout
from rlft_cli.errors import RlftError
from rlft_cli.explore import Explore
from rlft_cli.explore.greedy import Greedy
from rlft_cli.feedback import Feedback
from rlft_cli.memory import Memory
from rlft_cli.returns import action_log_prob, entropy, kl_k3
from rlft_cli.reward import Batch, Reward
from rlft_cli.sampler import BatchSampler
from rlft_cli.snapshot import Snapshot, TargetNetwork
from rlft_cli.task import Task

MOST_NONFINITE_UPDATES = 3  # in a row; one may be chance in low precision, three are not


class NonFiniteError(RlftError):
    """Loss or gradient is not a number; ``batch`` is what it happened on."""

    def __init__(self, message: str, batch: Trajectory) -> None:
        super().__init__(message)
        self.batch = batch


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimisation settings, as in the configuration's ``optim`` section."""

    lr: float
    head_lr: float
    weight_decay: float
    warmup_fraction: float
    schedule: Literal["linear", "cosine", "constant"]
    max_grad_norm: float
    batch_tokens: int
    max_batch_episodes: int
    micro_batches: int

    def factor(self, progress: float) -> float:
        """Multiplier of the learning rates when ``progress`` (0 to 1) of the budget is spent."""
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        left = (1 - progress) / max(1e-9, 1 - self.warmup_fraction)
        if self.schedule == "linear":
            return max(0.0, left)
        return 0.5 * (1 + math.cos(math.pi * (1 - left))) if self.schedule == "cosine" else 1.0


def make_optimizer(policy: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) in four groups: body or head, decayed or not (biases and norms are not)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, weight in policy.named_parameters():
        if weight.requires_grad:
            groups.setdefault((name.startswith("body."), weight.dim() > 1), []).append(weight)
    settings = [
        {
            "params": weights,
            "lr": optim.lr if body else optim.head_lr,
            "base_lr": optim.lr if body else optim.head_lr,
            "weight_decay": optim.weight_decay if decayed else 0.0,
        }
        for (body, decayed), weights in groups.items()
    ]
    return torch.optim.AdamW(settings, fused=True)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What happened in one step of the loop."""

    step: int
    passes: float
    done: float  # part of the budget spent, 0 to 1
    pass_ended: bool
    signals: dict[str, float]


@dataclass(kw_only=True)
class Counts:
    """What the learner was shown."""

    label_examples: int = 0  # distinct examples whose labels were revealed
    label_decisions: int = 0  # label decisions read, repeats included
    reaction_episodes: int = 0  # episodes that got a reward
    reaction_decisions: int = 0  # decisions that got a reward


@dataclass(kw_only=True)
class Training:
    """All that a training run holds; ``state_dict`` is what makes it resumable."""

    policy: Any  # an nn.Module that is a Policy; types have no "and"
    task: Task
    algorithm: Algorithm
    reward: Reward
    feedback: Feedback
    explore: Explore
    memory: Memory
    sampler: BatchSampler
    optim: Optim
    passes: float
    accelerator: Accelerator
    seed: int
    step: int = 0
    seen: int = 0
    nonfinite: int = 0
    counts: Counts = field(default_factory=Counts)
    target: TargetNetwork | None = None
    reference: Snapshot | None = None

    def __post_init__(self) -> None:
        """Build optimizer, generator and the copies of the policy that the algorithm needs."""
        self.optimizer = make_optimizer(self.policy, self.optim)
        self.wrapped, self.stepper = self.accelerator.prepare(self.policy, self.optimizer)
        self.generator = torch.Generator(device=self.accelerator.device)
        self.generator.manual_seed(self.seed * 1_000_003 + self.accelerator.process_index)
        self.memory_generator = torch.Generator()  # replay lives on the CPU
        self.memory_generator.manual_seed(self.seed * 7_368_787 + self.accelerator.process_index)
        self.seen_labels: set[int] = set()
        if "reference" in self.algorithm.reads:
            self.reference = Snapshot(self.policy)

    @property
    def done(self) -> float:
        """Part of the budget spent, 0 to 1."""
        return min(1.0, self.seen / (self.passes * len(self.sampler)))

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next (law 3)."""
        trainable = {name: w.detach() for name, w in self.policy.named_parameters() if w.requires_grad}
        return {
            "policy": trainable,
            "optimizer": self.optimizer.state_dict(),
            "target": self.target.state_dict() if self.target else {},
            "reference": self.reference.state_dict() if self.reference else {},
            "memory": self.memory.state_dict(),
            "explore": self.explore.state_dict(),
            "algorithm": dict(self.algorithm.state),
            "sampler": self.sampler.state_dict(),
            "generator": self.generator.get_state(),
            "memory_generator": self.memory_generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "step": self.step,
            "seen": self.seen,
            "nonfinite": self.nonfinite,
            "counts": vars(self.counts).copy(),
            "seen_labels": torch.tensor(sorted(self.seen_labels), dtype=torch.int64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``; training goes on as if it had never stopped."""
        self.policy.load_state_dict(state["policy"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.target:
            self.target.load_state_dict(state["target"])
        if self.reference:
            self.reference.load_state_dict(state["reference"])
        self.memory.load_state_dict(state["memory"])
        self.explore.load_state_dict(state["explore"])
        self.algorithm.state.update(state["algorithm"])
        self.sampler.load_state_dict(state["sampler"])
        self.generator.set_state(state["generator"])
        self.memory_generator.set_state(state["memory_generator"])
        torch.set_rng_state(state["torch_generator"])
        self.step, self.seen, self.nonfinite = state["step"], state["seen"], state["nonfinite"]
        self.counts = Counts(**state["counts"])
        self.seen_labels = set(state["seen_labels"].tolist())


def require_finite(scores: Tensor, observation: dict[str, Tensor], when: str) -> None:
    """NonFiniteError where scores [n, A] of a policy are not all numbers; ``observation`` is what it read."""
    if bool(torch.isfinite(scores).all()):
        return
    nothing = torch.zeros(observation["id"].shape[0], 1, dtype=torch.int64, device=scores.device)
    raise NonFiniteError(
        f"the policy's scores are not numbers {when}; try a lower optim.lr, or hardware.precision=fp32",
        blank(observation, nothing, nothing.bool()),
    )


def learn(training: Training) -> Iterator[Progress]:
    """Train until the budget is spent; NonFiniteError after three updates in a row that are not numbers."""
    t = training
    while t.done < 1.0:
        t.policy.train(t.algorithm.needs == "labels")  # RL acts and learns without dropout: the same policy (law 8)
        ids, pass_ended = t.sampler.next()
        signals = _collect(t, ids)
        if t.memory.ready():
            for _ in range(t.memory.replay_ratio):
                batch = t.memory.sample(t.optim.batch_tokens, t.optim.max_batch_episodes, t.memory_generator)
                signals.update(_update(t, batch))
        t.step += 1
        t.seen += len(ids)
        yield Progress(step=t.step, passes=t.seen / len(t.sampler), done=t.done, pass_ended=pass_ended, signals=signals)


def _collect(t: Training, ids: list[int]) -> dict[str, float]:
    """Make trajectories of the examples (this process's share of them) and remember them."""
    share = ids[t.accelerator.process_index :: t.accelerator.num_processes] or ids[:1]
    if t.algorithm.needs == "labels":
        fresh, signals = demonstrate(t.task, {"id": torch.tensor(share)}).to(t.accelerator.device), {}
        t.seen_labels.update(share)
        t.counts.label_examples = len(t.seen_labels)
        t.counts.label_decisions += int(fresh.mask.sum())
    else:
        fresh = _act(t, share)
        t.counts.reaction_episodes += fresh.action.shape[0]
        t.counts.reaction_decisions += int(fresh.mask.sum())
        signals = {
            "reward": float(fresh.reward[fresh.mask].mean()),
            "nonzero_actions": float((fresh.action[fresh.mask] != 0).float().mean()),
        }
    t.memory.add(fresh, t.task.cost(share))
    return signals


def _act(t: Training, ids: list[int]) -> Trajectory:
    """Roll out, judge, and let through what the feedback allows; labels stay on the reward's side (law 6)."""
    observation = _inputs(t, ids)
    k = t.algorithm.samples

    def values(scores: Tensor) -> Tensor:
        require_finite(scores, observation, f"at step {t.step}")
        return t.algorithm.values(scores)

    with t.accelerator.autocast():
        trajectory = rollout(
            t.policy, t.task, observation, t.explore, samples=k, progress=t.done, generator=t.generator, values=values
        )
        if t.reference is not None:
            scores = t.explore.warp(t.reference(observation, trajectory.action).scores)
            trajectory = replace(trajectory, reference_log_prob=action_log_prob(scores, trajectory.action))
        greedy = _greedy(t, observation) if "greedy" in t.algorithm.reads else None
    repeated = [i for i in ids for _ in range(k)]
    trajectory = replace(trajectory, reward=t.feedback(judge(t, trajectory, repeated), trajectory.mask))
    if greedy is not None:
        reward = t.feedback(judge(t, greedy, ids), greedy.mask).repeat_interleave(k, dim=0)
        trajectory = replace(trajectory, greedy_reward=fold(reward, trajectory.mask))
        t.counts.reaction_episodes += greedy.action.shape[0]
        t.counts.reaction_decisions += int(greedy.mask.sum())
    return trajectory


def _greedy(t: Training, observation: dict[str, Tensor]) -> Trajectory:
    return rollout(
        t.policy,
        t.task,
        observation,
        Greedy(split_ties=False),
        samples=1,
        progress=t.done,
        generator=t.generator,
        values=t.algorithm.values,
    )


def judge(t: Training, trajectory: Trajectory, ids: list[int]) -> Tensor:
    """Reward [N, T] of a trajectory whose rows belong to the examples ``ids`` [N]."""
    batch = Batch(
        references=t.task.references(ids),
        predictions=t.task.decode(trajectory.action, trajectory.mask, ids),
        labels=t.task.labels,
    )
    return t.reward(trajectory.action, trajectory.mask, batch)


def fold(reward: Tensor, mask: Tensor) -> Tensor:
    """Bring rewards [N, S] of one episode onto the steps of another [N, T]; what lies beyond its end goes to its end."""
    last = (mask.sum(1, keepdim=True) - 1).clamp(min=0)
    place = torch.minimum(torch.arange(reward.shape[1], device=reward.device)[None, :].expand_as(reward), last)
    return torch.zeros(mask.shape, dtype=reward.dtype, device=reward.device).scatter_add(1, place, reward)


def _inputs(t: Training, ids: list[int]) -> dict[str, Tensor]:
    return {name: tensor.to(t.accelerator.device) for name, tensor in t.task.collate(ids).items()}


def _update(t: Training, batch: Trajectory) -> dict[str, float]:
    """One optimizer step on a batch, in micro-batches whose sizes do not matter (law 2)."""
    batch = t.algorithm.prepare(batch.to(t.accelerator.device)).without_masked()
    decisions = t.accelerator.reduce(batch.mask.sum().float(), "sum")
    rows = torch.arange(batch.observation["id"].shape[0], device=batch.action.device)
    loss_sum = 0.0
    signals: dict[str, float] = {}
    for chunk in rows.chunk(t.optim.micro_batches):
        part = batch if t.optim.micro_batches == 1 else batch.select(chunk)
        loss, signals = _loss(t, part)
        loss = loss * (t.accelerator.num_processes / decisions)  # DDP averages over processes
        t.accelerator.backward(loss)
        loss_sum += float(loss.detach())
    norm = float(t.accelerator.clip_grad_norm_(t.policy.parameters(), t.optim.max_grad_norm))
    if not (math.isfinite(norm) and math.isfinite(loss_sum)):
        return _skip(t, batch, loss_sum, norm)
    t.nonfinite = 0
    factor = t.optim.factor(t.done)
    for group in t.optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    t.stepper.step()
    t.stepper.zero_grad()
    if t.target is not None:
        t.target.follow()
        signals["target_lag"] = float(t.target.lag)
    if t.algorithm.on_policy and t.algorithm.needs == "rewards":
        signals["zero_advantage"] = float((batch.advantage[batch.mask] == 0).float().mean())
    return {"loss": loss_sum, "grad_norm": norm, **signals}


def _loss(t: Training, part: Trajectory) -> tuple[Tensor, dict[str, float]]:
    """Summed loss of a micro-batch, and signals of its decisions."""
    observation = part.observation
    if len(observation) == 1:
        observation = _inputs(t, observation["id"].tolist())
    with t.accelerator.autocast():
        output = t.wrapped(observation, part.action)
        target = t.target(observation, part.action) if t.target is not None else None
    if t.algorithm.needs == "rewards":
        output = replace(output, scores=t.explore.warp(output.scores))
    loss = t.algorithm.loss(output, part, target)
    signals = {}
    if t.algorithm.on_policy and t.algorithm.needs == "rewards":
        with torch.no_grad():
            signals["entropy"] = float(entropy(output.scores)[part.mask].mean())
            if t.reference is not None:
                log_prob = action_log_prob(output.scores, part.action)
                signals["kl"] = float(
                    torch.where(part.mask, kl_k3(log_prob, part.reference_log_prob), 0.0).sum(1).mean()
                )
    return torch.where(part.mask, loss, torch.zeros_like(loss)).sum(), signals


def _skip(t: Training, batch: Trajectory, loss: float, norm: float) -> dict[str, float]:
    t.stepper.zero_grad()
    t.nonfinite += 1
    if t.nonfinite >= MOST_NONFINITE_UPDATES:
        raise NonFiniteError(
            f"loss {loss} with gradient norm {norm} in {t.nonfinite} updates in a row, at step {t.step}; "
            f"try a lower optim.lr, or hardware.precision=fp32",
            batch,
        )
    return {"nonfinite": float(t.nonfinite)}
