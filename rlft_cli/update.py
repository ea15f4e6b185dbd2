"""What is done with a batch of trajectories: loss, gradient, clipping, optimiser step, target network."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from rlft_cli.episode import Trajectory, demonstrate, legal_actions
from rlft_cli.finite import NonFiniteError
from rlft_cli.returns import action_log_prob, entropy, kl_k3
from rlft_cli.sampler import BatchSampler
from rlft_cli.training import Training

MOST_NONFINITE_UPDATES = 3  # in a row; one may be chance in low precision, three are not


def update(t: Training, batch: Trajectory) -> dict[str, float]:
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
        each, signals = micro_batch_loss(t, part, {name: tensor[episodes] for name, tensor in drawn.items()})
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


def micro_batch_loss(t: Training, part: Trajectory, drawn: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Loss [N, T] of a micro-batch, 0 where nothing is learned, and signals; ``drawn`` perturbs the policy, not its target."""
    observation = t.inputs_of(part)
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
            scores = t.wrapped(t.inputs_of(part), part.action).scores
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
