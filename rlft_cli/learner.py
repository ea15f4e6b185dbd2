"""learn(): the one loop. Roll out or demonstrate, reward, feedback, remember, prepare, update, yield."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from rlft_cli.algo import Algorithm
from rlft_cli.episode import Trajectory, blank, demonstrate, from_rows, legal_actions, rollout
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.explore import Explore
from rlft_cli.explore.greedy import Greedy
from rlft_cli.feedback import Feedback, Signal
from rlft_cli.memory import Memory
from rlft_cli.reactions import Counts, OnTheWay
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
    regret: int = 0  # wrong decisions so far, see ``_regret``
    decided: int = 0  # decisions that were held against the reference
    counts: Counts = field(default_factory=Counts)
    target: TargetNetwork | None = None
    reference: Snapshot | None = None
    labelled: BatchSampler | None = None  # examples whose labels were revealed before, to be mixed in
    label_coefficient: float = 0.0  # weight of their cross-entropy
    log: Mapping[int, Any] | None = None  # by example, what another policy did: arrays of ring.DECISION

    def __post_init__(self) -> None:
        """Build optimizer, generator and the copies of the policy that the algorithm needs."""
        self.optimizer = make_optimizer(self.policy, self.optim)
        self.wrapped, self.stepper = self.accelerator.prepare(self.policy, self.optimizer)
        self.generator = torch.Generator(device=self.accelerator.device)
        self.generator.manual_seed(self.seed * 1_000_003 + self.accelerator.process_index)
        self.memory_generator = torch.Generator()  # replay lives on the CPU
        self.memory_generator.manual_seed(self.seed * 7_368_787 + self.accelerator.process_index)
        self.feedback_generator = torch.Generator()  # of noise and delays, apart from that of the actions
        self.feedback_generator.manual_seed(self.seed * 5_915_587 + self.accelerator.process_index)
        self.on_the_way = OnTheWay()
        self.seen_labels: set[int] = set()
        self.seen_reactions: set[int] = set()
        if "reference" in self.algorithm.reads:
            self.reference = Snapshot(self.policy)

    @property
    def done(self) -> float:
        """Part of the budget spent, 0 to 1."""
        return min(1.0, self.seen / (self.passes * len(self.sampler))) if self.passes > 0 else 1.0

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
            "feedback_generator": self.feedback_generator.get_state(),
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
        self.feedback_generator.set_state(state["feedback_generator"])
        torch.set_rng_state(state["torch_generator"])
        self.on_the_way.load_state_dict(state["on_the_way"])
        self.step, self.seen, self.nonfinite = state["step"], state["seen"], state["nonfinite"]
        self.regret, self.decided = state["regret"], state["decided"]
        self.counts = Counts(**state["counts"])
        self.seen_labels = set(state["seen_labels"].tolist())
        self.seen_reactions = set(state["seen_reactions"].tolist())


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
        signals, news = _collect(t, ids)
        if _all_ready(t, news):
            for _ in range(t.memory.replay_ratio):
                batch = t.memory.sample(t.optim.batch_tokens, t.optim.max_batch_episodes, t.memory_generator)
                signals.update(_update(t, batch))
        t.step += 1
        t.seen += len(ids)
        yield Progress(step=t.step, passes=t.seen / len(t.sampler), done=t.done, pass_ended=pass_ended, signals=signals)


def _all_ready(t: Training, news: bool) -> bool:
    """Whether every process can learn: an update is a joint work, and one that stayed away would be waited for."""
    ready = t.memory.ready() and (news or not t.memory.fresh)
    if t.accelerator.num_processes == 1:
        return ready
    able = t.accelerator.reduce(torch.tensor(float(ready), device=t.accelerator.device), "sum")
    return bool(able == t.accelerator.num_processes)


def _idle(t: Training, ids: list[int]) -> bool:
    """Take part in the update without a share of the batch: with an episode that counts for nothing (law 2)."""
    if t.memory.fresh:
        width, k = t.task.demonstration(ids)[1].shape[1], t.algorithm.samples if t.algorithm.needs == "rewards" else 1
        nothing = torch.zeros(k, width, dtype=torch.int64)
        t.memory.add(blank({"id": torch.tensor(ids)}, nothing, nothing.bool()), t.task.cost(ids))
    return True


def _collect(t: Training, ids: list[int]) -> tuple[dict[str, float], bool]:
    """Make trajectories of the examples (this process's share of them) and remember what there is to learn from.

    Returns signals, and whether anything was remembered: rewards may be on their way.
    """
    share = ids[t.accelerator.process_index :: t.accelerator.num_processes]
    if not share:
        return {}, _idle(t, ids[:1])
    cost = t.task.cost(share)
    if t.algorithm.needs == "labels":
        fresh = demonstrate(t.task, {"id": torch.tensor(share)}).to(t.accelerator.device)
        t.seen_labels.update(share)
        t.counts.label_examples = len(t.seen_labels)
        t.counts.label_decisions += int(fresh.mask.sum())
        t.memory.add(fresh, cost)
        return {}, True
    fresh, signal = _act(t, share) if t.log is None else _read(t, t.log, share)
    signals = {"nonzero_actions": float((fresh.action[fresh.mask] != 0).float().mean())}
    if bool(signal.observed.any()):
        signals["reward"] = float(signal.reward[signal.observed].mean())
    if not (len(t.on_the_way) or bool(signal.delay_steps.any())):
        _remember(t, fresh, signal, cost)
        return signals, True
    t.on_the_way.add(fresh, signal, cost, t.step)
    arrived = t.on_the_way.take(t.step)
    if arrived is not None:
        _remember(t, *arrived)
    return signals, arrived is not None


def _remember(t: Training, trajectory: Trajectory, signal: Signal, cost: list[int]) -> None:
    """Give the memory a trajectory whose rewards are there, and count them."""
    reacted = (signal.reactions.reshape(-1, trajectory.samples) > 0).any(1).cpu()
    t.seen_reactions.update(trajectory.observation["id"].cpu()[reacted].tolist())
    t.counts.add(signal)
    t.counts.reaction_examples = len(t.seen_reactions)
    t.memory.add(trajectory, cost)
    t.explore.observe(trajectory, partial(_features, t))


@torch.no_grad()
def _features(t: Training, trajectory: Trajectory) -> Tensor:
    """What the last layer reads of each decision [N, T, H], by the policy as it is now."""
    observation = trajectory.observation
    if len(observation) == 1:
        observation = _inputs(t, observation["id"].tolist())
    with t.accelerator.autocast():
        features: Tensor = t.policy(observation, trajectory.action).features
    return features


def _act(t: Training, ids: list[int]) -> tuple[Trajectory, Signal]:
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
        greedy = _greedy(t, observation) if "greedy" in t.algorithm.reads else None
    if t.task.decisions != "tokens":
        _regret(t, trajectory, ids)
    trajectory = _with_reference(t, trajectory)
    signal = _feedback(t, trajectory, [i for i in ids for _ in range(k)])
    trajectory = replace(trajectory, reward=signal.reward, observed=signal.observed)
    if greedy is not None:
        told = _feedback(t, greedy, ids)
        t.counts.add(told)
        reward = told.reward.repeat_interleave(k, dim=0)
        trajectory = replace(trajectory, greedy_reward=fold(reward, trajectory.mask))
    return trajectory, signal


def _regret(t: Training, trajectory: Trajectory, ids: list[int]) -> None:
    """Add to the regret of the run, R = sum over decisions of r*(x) - r(x, a), for the log alone: nothing learns from it.

    Counted for the reward that is 1 where a decision is that of the reference and 0 elsewhere, whatever the run is paid in:
    there r* = 1, and the regret is the number of wrong decisions before they are learned from (METHODS 4).
    """
    right, _ = t.task.demonstration(ids)
    wrong = trajectory.action != right.to(trajectory.action.device).repeat_interleave(trajectory.samples, dim=0)
    t.regret += int((wrong & trajectory.mask).sum())
    t.decided += int(trajectory.mask.sum())


def _with_reference(t: Training, trajectory: Trajectory) -> Trajectory:
    """With the log-probabilities of the reference policy, where the algorithm reads them."""
    if t.reference is None:
        return trajectory
    with t.accelerator.autocast():
        scores = t.explore.warp(t.reference(trajectory.observation, trajectory.action).scores)
    known = legal_actions(scores.gather(-1, trajectory.action[..., None]).squeeze(-1))
    if not bool(known[trajectory.mask].all()):
        raise UsageError(
            "the reference policy gives no chance to an action that was taken, because top_k or top_p cuts it off there, so "
            "that the KL is infinite; type explore.top_k=0 explore.top_p=1.0, or algo.kl_coefficient=0"
        )
    return replace(trajectory, reference_log_prob=action_log_prob(scores, trajectory.action))


def _read(t: Training, log: Mapping[int, Any], ids: list[int]) -> tuple[Trajectory, Signal]:
    """What another policy did with the examples, and what the feedback lets through of its rewards."""
    logged = from_rows(example=ids, decisions=[log[i] for i in ids], truncated=[False] * len(ids))
    logged = replace(logged.to(t.accelerator.device), observation=_inputs(t, ids))
    logged = replace(logged, truncated=t.task.truncated(logged.action, logged.mask))
    batch = Batch(references=[], predictions=[], labels=t.task.labels)
    signal = t.feedback(logged.reward, logged, batch, t.feedback_generator)
    return _with_reference(t, replace(logged, reward=signal.reward, observed=signal.observed)), signal


def _feedback(t: Training, trajectory: Trajectory, ids: list[int]) -> Signal:
    """What the learner is told of a trajectory whose rows belong to the examples ``ids`` [N]."""
    batch = Batch(
        references=t.task.references(ids),
        predictions=t.task.decode(trajectory.action, trajectory.mask, ids),
        labels=t.task.labels,
    )
    reward = torch.zeros_like(trajectory.reward)
    if t.feedback.reads_reward:
        reward = t.reward(trajectory.action, trajectory.mask, batch)
    return t.feedback(reward, trajectory, batch, t.feedback_generator)


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


def fold(reward: Tensor, mask: Tensor) -> Tensor:
    """Bring rewards [N, S] of one episode onto the steps of another [N, T]; what lies beyond its end goes to its end."""
    last = (mask.sum(1, keepdim=True) - 1).clamp(min=0)
    place = torch.minimum(torch.arange(reward.shape[1], device=reward.device)[None, :].expand_as(reward), last)
    return torch.zeros(mask.shape, dtype=reward.dtype, device=reward.device).scatter_add(1, place, reward)


def _inputs(t: Training, ids: list[int]) -> dict[str, Tensor]:
    return {name: tensor.to(t.accelerator.device) for name, tensor in t.task.collate(ids).items()}


def _update(t: Training, batch: Trajectory) -> dict[str, float]:
    """Optimizer steps on a batch, one for each epoch of the algorithm; what it prepared holds for all of them."""
    batch = t.algorithm.prepare(batch.to(t.accelerator.device)).without_masked()
    told = batch.mask & batch.observed
    decisions = t.accelerator.reduce(told.sum().float(), "sum")
    if not bool(decisions > 0):  # nobody reacted to any of it, in no process
        return {}
    signals = {name: float(average) for name, average in t.algorithm.state.items() if average.dim() == 0}
    for _ in range(t.algorithm.epochs):
        signals.update(_step(t, batch, told, decisions))
    return signals


def _step(t: Training, batch: Trajectory, told: Tensor, decisions: Tensor) -> dict[str, float]:
    """One optimizer step on a prepared batch, in micro-batches whose sizes do not matter (law 2)."""
    rows = torch.arange(batch.observation["id"].shape[0], device=batch.action.device)
    drawn = {}  # once for all parts
    if t.algorithm.needs == "rewards":
        drawn = t.explore.perturb(len(batch.action), t.policy.width, t.policy.actions, t.generator)
    loss_sum = 0.0
    signals: dict[str, float] = {}
    worst: list[Tensor] = []
    for chunk in rows.chunk(t.optim.micro_batches):
        part = batch if t.optim.micro_batches == 1 else batch.select(chunk)
        episodes = batch.episodes(chunk)
        each, signals = _loss(t, part, {name: tensor[episodes] for name, tensor in drawn.items()})
        worst.append(each.detach().amax(1))
        loss = (each * part.weight[:, None]).sum()
        loss = loss * (t.accelerator.num_processes / decisions)  # DDP averages over processes
        t.accelerator.backward(loss)
        loss_sum += float(loss.detach())
    if t.labelled is not None:
        signals["cross_entropy"] = _mix_in(t, t.labelled)
        loss_sum += t.label_coefficient * signals["cross_entropy"]
    norm = _clip(t)
    if not (math.isfinite(norm) and math.isfinite(loss_sum)):
        return _skip(t, batch, loss_sum, norm)
    t.nonfinite = 0
    t.memory.learned(torch.cat(worst), t.done)
    factor = t.optim.factor(t.done)
    for group in t.optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    t.stepper.step()
    t.stepper.zero_grad()
    if t.target is not None:
        t.target.follow()
        signals["target_lag"] = float(t.target.lag)
    if t.algorithm.on_policy and t.algorithm.needs == "rewards":
        signals["zero_advantage"] = float((batch.advantage[told] == 0).float().sum() / told.sum().clamp(min=1))
    return {"loss": loss_sum, "grad_norm": norm, **signals}


def _clip(t: Training) -> float:
    """Scale the gradient down to max_grad_norm where it is longer; returns the L2 norm that it had.

    The usual function multiplies by 1 where it is not, which is one more walk through all weights.
    """
    if t.accelerator.num_processes > 1:
        return float(t.accelerator.clip_grad_norm_(t.policy.parameters(), t.optim.max_grad_norm))
    weights = [weight for weight in t.policy.parameters() if weight.grad is not None]
    norm = get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    if norm > t.optim.max_grad_norm:
        clip_grads_with_norm_(weights, t.optim.max_grad_norm, norm)
    return float(norm)


def _loss(t: Training, part: Trajectory, drawn: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Loss [N, T] of a micro-batch, 0 where nothing is learned, and signals; ``drawn`` perturbs the policy, not its target."""
    observation = part.observation
    if len(observation) == 1:
        observation = _inputs(t, observation["id"].tolist())
    with t.accelerator.autocast():
        output = t.wrapped(observation | drawn, part.action)
        target = t.target(observation, part.action) if t.target is not None else None
    if t.algorithm.needs == "rewards":
        output = replace(output, scores=t.explore.warp(output.scores))
    loss = t.algorithm.loss(output, part, target)
    signals = {}
    if t.algorithm.on_policy and t.algorithm.needs == "rewards" and bool(part.mask.any()):
        with torch.no_grad():
            signals["entropy"] = float(entropy(output.scores[part.mask]).mean())
            if t.reference is not None:
                log_prob = action_log_prob(output.scores, part.action)
                signals["kl"] = float(
                    torch.where(part.mask, kl_k3(log_prob, part.reference_log_prob), 0.0).sum(1).mean()
                )
    told = part.mask & part.observed  # a decision without a reaction is not learned from (docs/decisions/0013)
    if t.algorithm.needs == "rewards":  # nor one that truncated sampling would by now not take: its chance is 0
        told = told & legal_actions(output.scores.gather(-1, part.action[..., None]).squeeze(-1))
    if t.algorithm.epochs > 1:  # how far from the policy that acted this epoch began
        with torch.no_grad():
            moved = kl_k3(part.log_prob, action_log_prob(output.scores, part.action))
            signals["approx_kl"] = float(torch.where(told, moved, 0.0).sum() / told.sum().clamp(min=1))
    return torch.where(told, loss, torch.zeros_like(loss)), signals


def _mix_in(t: Training, labelled: BatchSampler) -> float:
    """Add the gradient of the mixed objective L_RL + lambda L_CE (Wu et al. 2016, eq. 9, up to one factor); returns L_CE.

    L_CE is the mean cross-entropy over the decisions of a batch of labelled examples, dealt to the processes. One without
    a share takes part with an example that counts for nothing (law 2).
    """
    ids, _ = labelled.next()
    share = ids[t.accelerator.process_index :: t.accelerator.num_processes]
    known = demonstrate(t.task, {"id": torch.tensor(share or ids[:1])}).to(t.accelerator.device)
    mask = known.mask if share else torch.zeros_like(known.mask)
    known = replace(known, mask=mask)
    decisions = t.accelerator.reduce(mask.sum().float(), "sum")
    total = 0.0
    for chunk in torch.arange(len(known.action), device=mask.device).chunk(t.optim.micro_batches):
        part = known if t.optim.micro_batches == 1 else known.select(chunk)
        with t.accelerator.autocast():
            scores = t.wrapped(_inputs(t, part.observation["id"].tolist()), part.action).scores
        loss = -action_log_prob(scores, part.action)
        loss = torch.where(part.mask, loss, torch.zeros_like(loss)).sum() / decisions
        t.accelerator.backward(t.label_coefficient * t.accelerator.num_processes * loss)  # DDP averages over processes
        total += float(loss.detach())
    return total


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
