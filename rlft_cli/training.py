"""What a training run holds: policy, task, components, optimiser, generators; and its state, which can be resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rlft_cli.algo import Algorithm
from rlft_cli.episode import Trajectory
from rlft_cli.explore import Explore
from rlft_cli.feedback import Feedback
from rlft_cli.judge import Judge
from rlft_cli.memory import Memory
from rlft_cli.reactions import Counts, OnTheWay
from rlft_cli.reward import Reward
from rlft_cli.sampler import BatchSampler
from rlft_cli.search import Settings
from rlft_cli.snapshot import Snapshot, TargetNetwork
from rlft_cli.task import Task


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


@dataclass(kw_only=True)
class Training:
    """All that a training run holds; ``state_dict`` is what makes it resumable."""

    policy: Any  # an nn.Module that is a Policy; types have no "and"
    task: Task
    algorithm: Algorithm
    reward: InitVar[Reward]  # both are the judge's
    feedback: InitVar[Feedback]
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
    regret: int = 0  # wrong decisions so far, for the log alone
    decided: int = 0  # decisions that were held against the reference
    counts: Counts = field(default_factory=Counts)
    target: TargetNetwork | None = None
    reference: Snapshot | None = None
    labelled: BatchSampler | None = None  # examples whose labels were revealed before, to be mixed in
    label_coefficient: float = 0.0  # weight of their cross-entropy
    pairs: Callable[[Sequence[int]], tuple[Tensor, Tensor]] | None = (
        None  # of replies [2 B, T], the preferred one first
    )
    search: Settings | None = None  # of an algorithm that imitates what a search finds
    log: Mapping[int, Any] | None = None  # by example, what another policy did: arrays of ring.DECISION

    def __post_init__(self, reward: Reward, feedback: Feedback) -> None:
        """Build judge, optimizer, generators and the copies of the policy that the algorithm needs."""
        self.optimizer = make_optimizer(self.policy, self.optim)
        self.wrapped, self.stepper = self.accelerator.prepare(self.policy, self.optimizer)
        self.generator = torch.Generator(device=self.accelerator.device)
        self.generator.manual_seed(self.seed * 1_000_003 + self.accelerator.process_index)
        self.memory_generator = torch.Generator()  # replay lives on the CPU
        self.memory_generator.manual_seed(self.seed * 7_368_787 + self.accelerator.process_index)
        chance = torch.Generator().manual_seed(self.seed * 5_915_587 + self.accelerator.process_index)
        reads = self.algorithm.reads
        self.judge = Judge(
            task=self.task, reward=reward, feedback=feedback, generator=chance, chances="chance" in reads
        )
        self.on_the_way = OnTheWay()
        self.seen_labels: set[int] = set()
        self.seen_reactions: set[int] = set()
        if "reference" in reads:
            self.reference = Snapshot(self.policy)

    @property
    def done(self) -> float:
        """Part of the budget spent, 0 to 1."""
        return min(1.0, self.seen / (self.passes * len(self.sampler))) if self.passes > 0 else 1.0

    def inputs(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """What the policy reads of examples, where the policy is."""
        return {name: tensor.to(self.accelerator.device) for name, tensor in self.task.collate(ids).items()}

    def place(self) -> dict[str, Any]:
        """Where the next step begins, cheap to keep: what acting changes before a reward is asked for."""
        return {
            "sampler": self.sampler.state_dict(),
            "generator": self.generator.get_state(),
            "feedback_generator": self.judge.generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "regret": self.regret,
            "decided": self.decided,
        }

    def go_back(self, place: Mapping[str, Any]) -> None:
        """Undo a step whose rewards could not be had, so that a resumed run takes it again (law 3)."""
        self.sampler.load_state_dict(place["sampler"])
        self.generator.set_state(place["generator"])
        self.judge.generator.set_state(place["feedback_generator"])
        torch.set_rng_state(place["torch_generator"])
        self.regret, self.decided = place["regret"], place["decided"]

    def inputs_of(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """What the policy reads of a trajectory, collated again where it holds ids alone, and what came to light."""
        if len(trajectory.observation) == 1:
            trajectory = replace(trajectory, observation=self.inputs(trajectory.observation["id"].tolist()))
        return trajectory.inputs

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next (law 3)."""
        trainable = {name: w.detach() for name, w in self.policy.named_parameters() if w.requires_grad}
        return {
            "policy": trainable,
            "optimizer": self.optimizer.state_dict(),
            "target": self.target.state_dict() if self.target else {},
            "reference": self.reference.state_dict() if self.reference else {},
            "memory": self.memory.state_dict(),
            "explore": {name: tensor.clone() for name, tensor in self.explore.state.items()},
            "algorithm": dict(self.algorithm.state),
            "sampler": self.sampler.state_dict(),
            "labelled": self.labelled.state_dict() if self.labelled else {},
            "generator": self.generator.get_state(),
            "memory_generator": self.memory_generator.get_state(),
            "feedback_generator": self.judge.generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "on_the_way": self.on_the_way.state_dict(),
            "step": self.step,
            "seen": self.seen,
            "nonfinite": self.nonfinite,
            "regret": self.regret,
            "decided": self.decided,
            "counts": vars(self.counts).copy(),
            "seen_labels": torch.tensor(sorted(self.seen_labels), dtype=torch.int64),
            "seen_reactions": torch.tensor(sorted(self.seen_reactions), dtype=torch.int64),
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
        self.explore.state.clear()
        self.explore.state.update({name: tensor.clone() for name, tensor in state["explore"].items()})
        self.algorithm.state.update(state["algorithm"])
        self.sampler.load_state_dict(state["sampler"])
        if self.labelled:
            self.labelled.load_state_dict(state["labelled"])
        self.generator.set_state(state["generator"])
        self.memory_generator.set_state(state["memory_generator"])
        self.judge.generator.set_state(state["feedback_generator"])
        torch.set_rng_state(state["torch_generator"])
        self.on_the_way.load_state_dict(state["on_the_way"])
        self.step, self.seen, self.nonfinite = state["step"], state["seen"], state["nonfinite"]
        self.regret, self.decided = state["regret"], state["decided"]
        self.counts = Counts(**state["counts"])
        self.seen_labels = set(state["seen_labels"].tolist())
        self.seen_reactions = set(state["seen_reactions"].tolist())
