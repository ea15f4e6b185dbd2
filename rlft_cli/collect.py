"""Where trajectories come from: acted out and reacted to, demonstrated, or read from a log; and into the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory, blank, demonstrate, from_rows, legal_actions, rollout
from rlft_cli.errors import UsageError
from rlft_cli.expert import improve
from rlft_cli.explore.greedy import Greedy
from rlft_cli.feedback import Signal
from rlft_cli.finite import require_finite
from rlft_cli.returns import action_log_prob
from rlft_cli.training import Training


def collect(t: Training, ids: list[int]) -> tuple[dict[str, float], bool]:
    """Make trajectories of the examples (this process's share of them) and remember what there is to learn from.

    Returns signals, and whether anything was remembered: rewards may be on their way.
    """
    share = ids[t.accelerator.process_index :: t.accelerator.num_processes]
    if not share:
        return {}, _idle(t, ids[:1])
    cost = t.task.cost(share)
    if t.algorithm.needs == "labels":
        fresh = _shown(t, share)
        t.seen_labels.update(share)
        t.counts.label_examples = len(t.seen_labels)
        t.counts.label_decisions += int(fresh.mask.sum())
        t.memory.add(fresh, cost)
        return {}, True
    signals: dict[str, float] = {}
    if t.search is not None:
        fresh, signal, signals["search_gain"] = improve(t, t.search, share)
    else:
        fresh, signal = act(t, share) if t.log is None else _read(t, t.log, share)
    signals["nonzero_actions"] = float((fresh.action[fresh.mask] != 0).float().mean())
    if bool(signal.observed.any()):
        signals["reward"] = float(signal.reward[signal.observed].mean())  # of a decision
        signals["episode_reward"] = float(signal.reward.sum(1)[signal.observed.any(1)].mean())
    if not (len(t.on_the_way) or bool(signal.delay_steps.any())):
        _remember(t, fresh, signal, cost)
        return signals, True
    t.on_the_way.add(fresh, signal, cost, t.step)
    arrived = t.on_the_way.take(t.step)
    if arrived is None:
        return signals, False
    late, signal, cost = arrived
    late = late.to(t.accelerator.device)
    if t.memory.fresh:  # it is learned from as it is: explorer and update read the same inputs
        late = replace(late, observation=t.inputs(late.observation["id"].tolist()))
    _remember(t, late, signal, cost)
    return signals, True


def _shown(t: Training, ids: list[int]) -> Trajectory:
    """The reference's decisions on examples; of an algorithm that compares, both replies to each prompt."""
    if t.pairs is None:
        return demonstrate(t.task, {"id": torch.tensor(ids)}).to(t.accelerator.device)
    action, mask = t.pairs(ids)
    return _with_reference(t, blank(t.inputs(ids), action.to(t.accelerator.device), mask.to(t.accelerator.device)))


def _idle(t: Training, ids: list[int]) -> bool:
    """Take part in the update without a share of the batch: with an episode that counts for nothing (law 2)."""
    if t.memory.fresh:
        k = 2 if t.pairs is not None else t.algorithm.samples if t.algorithm.needs == "rewards" else 1
        begun = t.task.reset(t.inputs(ids), 1)
        nothing = torch.zeros(k, int(begun.length.max()), dtype=torch.int64)
        episode = blank({"id": torch.tensor(ids)}, nothing, nothing.bool())
        if begun.seen is not None:
            episode = replace(episode, seen=episode.seen.new_zeros(*nothing.shape, begun.seen.shape[-1]))
        t.memory.add(episode, t.task.cost(ids))
    return True


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
    """What the head reads of each decision [N, T, D], by the policy as it is now."""
    with t.accelerator.autocast():
        features: Tensor = t.policy(t.inputs_of(trajectory), trajectory.action).features
    return features


def act(t: Training, ids: list[int]) -> tuple[Trajectory, Signal]:
    """Roll out, and hear what the feedback lets through; labels stay on the judge's side (law 6)."""
    observation = t.inputs(ids)
    k = t.algorithm.samples

    def values(scores: Tensor) -> Tensor:
        require_finite(scores, observation, f"at step {t.step}")
        return t.algorithm.values(scores)

    with t.accelerator.autocast():
        trajectory = rollout(
            t.policy, t.task, observation, t.explore, samples=k, progress=t.done, generator=t.generator, values=values
        )
        greedy = _greedy(t, observation) if "greedy" in t.algorithm.reads else None
    if t.task.decisions in ("tags", "classes"):  # before it is learned from; for the log alone
        t.regret += t.judge.mistakes(trajectory, ids)
        t.decided += int(trajectory.mask.sum())
    trajectory = _with_reference(t, trajectory)
    signal = t.judge.tell(trajectory, [i for i in ids for _ in range(k)])
    trajectory = replace(trajectory, reward=signal.reward, observed=signal.observed)
    if greedy is not None:
        told = t.judge.tell(greedy, ids)
        t.counts.add(told)
        reward = told.reward.repeat_interleave(k, dim=0)
        trajectory = replace(trajectory, greedy_reward=fold(reward, trajectory.mask))
    return trajectory, signal


def _with_reference(t: Training, trajectory: Trajectory) -> Trajectory:
    """With the log-probabilities of the reference policy, where the algorithm reads them."""
    if t.reference is None:
        return trajectory
    with t.accelerator.autocast():
        scores = t.explore.warp(t.reference(trajectory.inputs, trajectory.action).scores)
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
    logged = replace(logged.to(t.accelerator.device), observation=t.inputs(ids))
    logged = replace(logged, truncated=t.task.truncated(logged.action, logged.mask))
    signal = t.judge.pass_on(logged)
    return _with_reference(t, replace(logged, reward=signal.reward, observed=signal.observed)), signal


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
