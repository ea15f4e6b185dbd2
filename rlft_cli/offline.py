"""What a policy would have earned, from the log of another one: estimators, their intervals, and whether to believe them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rlft_cli.data.logs import Log, LoggedEpisode
from rlft_cli.episode import ILLEGAL_SCORE, from_rows, legal_actions
from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import Floats, Interval, bootstrap, ratio
from rlft_cli.returns import (
    direct_method,
    doubly_robust,
    effective_sample_size,
    importance_ratio,
    inverse_propensity,
)
from rlft_cli.ring import DECISION
from rlft_cli.task import Task

LEAST_SAMPLE = 0.01  # effective sample size as a part of the rows, below which nothing is estimated (METHODS 2.7)
LEAST_LOG_PROB = -20.0  # of an action, as the reward model reads it
Weights = Literal["decision", "episode"]


def decisions_of(episode: LoggedEpisode) -> Any:
    """A logged episode as a structured array of DECISION; a reward that is not known is 0 and not observed."""
    rows = np.zeros(len(episode.action), DECISION)
    rows["action"] = episode.action
    rows["reward"] = [0.0 if reward is None else reward for reward in episode.reward]
    rows["observed"] = [reward is not None for reward in episode.reward]
    rows["log_prob"] = np.log(episode.propensity)
    return rows


@dataclass(frozen=True, kw_only=True)
class Scored:
    """M logged decisions in the order of the log, as the policy in question sees them; float64."""

    episode: Tensor  # [M] int64, number of the episode
    action: Tensor  # [M] int64
    reward: Tensor  # [M], 0 where it is not observed
    observed: Tensor  # [M] bool
    log_prob: Tensor  # [M] of the logged action under the policy in question
    behaviour_log_prob: Tensor  # [M] log propensity
    log_policy: Tensor | None  # [M, A] log pi(. | s), where the actions are labels
    belief: Tensor | None  # [M, A] log softmax of the policy's scores, which the reward model reads


@torch.no_grad()
def score_log(
    policy: nn.Module,
    task: Task,
    log: Log,
    ids: Sequence[int],
    batches: Sequence[Sequence[int]],
    *,
    values: Any,
    temperature: float,
    autocast: Callable[[], AbstractContextManager[Any]],
    device: torch.device,
) -> Scored:
    """Score the decisions of a log, in ``batches`` of places in it; ``ids`` are the examples of its episodes.

    The policy takes the best action (temperature 0) or samples from the softmax of values / temperature.
    """
    policy.eval()
    parts: list[dict[str, Tensor]] = []
    for places in batches:
        some, episodes = [ids[place] for place in places], [log.episodes[place] for place in places]
        rows = [decisions_of(episode) for episode in episodes]
        known = from_rows(example=some, decisions=rows, truncated=[False] * len(some)).to(device)
        observation = {name: tensor.to(device) for name, tensor in task.collate(some).items()}
        with autocast():
            scores: Tensor = policy(observation, known.action).scores
        here = known.mask
        scores, action = scores[here].double(), known.action[here]
        part = {
            "episode": torch.tensor(list(places), device=device)[:, None].expand_as(here)[here],
            "action": action,
            "reward": _flat([[reward or 0.0 for reward in episode.reward] for episode in episodes], device),
            "observed": known.observed[here],
            "behaviour_log_prob": _flat([episode.propensity for episode in episodes], device).log(),
        }
        log_policy = _log_policy(scores, values, temperature)
        part["log_prob"] = log_policy.gather(-1, action[:, None]).squeeze(-1)
        if task.labels:
            part |= {"log_policy": log_policy, "belief": torch.log_softmax(scores, dim=-1)}
        parts.append({name: tensor.cpu() for name, tensor in part.items()})
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = torch.sort(joined["episode"], stable=True).indices
    ordered = {name: tensor[order] for name, tensor in joined.items()}
    return Scored(log_policy=ordered.pop("log_policy", None), belief=ordered.pop("belief", None), **ordered)


def _flat(rows: Sequence[Sequence[float]], device: torch.device) -> Tensor:
    """Numbers of the log as they stand in it: [M] float64, which DECISION would round."""
    return torch.tensor([x for row in rows for x in row], dtype=torch.float64, device=device)


def _log_policy(scores: Tensor, values: Any, temperature: float) -> Tensor:
    """log pi(. | s) [M, A] of scores [M, A]; actions of probability 0 hold ILLEGAL_SCORE."""
    if temperature == 0:
        best = torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).bool()
        return torch.where(best, 0.0, ILLEGAL_SCORE).to(scores)
    legal = legal_actions(scores)
    return torch.log_softmax(torch.where(legal, values(scores) / temperature, ILLEGAL_SCORE), dim=-1)


# -- the reward model ----------------------------------------------------------------------------------------------


def predicted_rewards(scored: Scored, ridge: float) -> Tensor:
    """q(s, a) [M, A] by ridge regression on what the policy believes of each action, cross-fitted in two folds.

    q(s, a) = b + u p + v log p + b_a + u_a p, p = softmax of the policy's scores at a; ``ridge`` times the squares of all
    but b is added to the squared error. Episodes of even and of odd number predict each other, so that no reward is in
    its own prediction (Dudik et al. 2011; cross-fitting: Chernozhukov et al. 2018).
    """
    assert scored.belief is not None  # labels
    predicted = torch.zeros_like(scored.belief)
    fold = scored.episode % 2
    for held_out in (0, 1):
        known, asked = (fold != held_out) & scored.observed, fold == held_out
        weight = _fit(_features(scored.belief[known], scored.action[known]), scored.reward[known], ridge)
        (b, u, v), (b_a, u_a) = weight[:3], weight[3:].chunk(2)
        log_prob = scored.belief[asked].clamp(min=LEAST_LOG_PROB)
        predicted[asked] = b + b_a + (u + u_a) * log_prob.exp() + v * log_prob / -LEAST_LOG_PROB
    return predicted


def _features(belief: Tensor, action: Tensor) -> Tensor:
    """What q(s, a) reads [M, 3 + 2 A] of beliefs [M, A] and actions [M]."""
    log_prob = belief.gather(-1, action[:, None]).clamp(min=LEAST_LOG_PROB)
    which = torch.nn.functional.one_hot(action, belief.shape[1]).to(belief)
    parts = [torch.ones_like(log_prob), log_prob.exp(), log_prob / -LEAST_LOG_PROB, which, which * log_prob.exp()]
    return torch.cat(parts, dim=-1)


def _fit(features: Tensor, reward: Tensor, ridge: float) -> Tensor:
    penalty = torch.full((features.shape[1],), ridge, dtype=features.dtype)
    penalty[0] = 1e-9  # the mean is not held back; with no rows at all it is 0
    solution: Tensor = torch.linalg.solve(features.T @ features + torch.diag(penalty), features.T @ reward)
    return solution


# -- the estimates -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Value of a policy, in units of the reward per episode, and what speaks for it."""

    value: dict[str, Interval]
    rows: int  # weighted decisions, or episodes
    effective_rows: float
    clip_rate: float  # part of the rows whose weight is above the clip
    mean_weight: Interval  # 1 where the logger tries whatever the policy would do
    reward_model_r2: float | None  # of held-out rewards, against their mean

    @property
    def supported(self) -> bool:
        """Whether the weights leave it open that the log covers all that the policy does."""
        return self.mean_weight["high"] >= 1


def weights_of(log: Log) -> Weights:
    """Episode where every reward but an episode's last is 0 (one number for all its decisions), else decision."""
    several = [episode.reward for episode in log.episodes if len(episode.reward) > 1]
    early = any(reward for rewards in several for reward in rewards[:-1])
    return "episode" if several and not early else "decision"


def estimate(scored: Scored, *, weights: Weights, clip: float, ridge: float, seed: int, resamples: int) -> Estimates:
    """Estimate by IPS, clipped IPS, SNIPS and, for labels weighted by decision, DM and DR, with 95 % bootstrap intervals.

    weights "decision": each reward is weighted by the ratio of its own decision, given the logged ones before it; the
    policy's own history may be another. "episode": an episode's return by the product of its ratios. Resampled are
    episodes. RlftError where the weights leave less than LEAST_SAMPLE of the rows.
    """
    episode, reward, w, predicted = _rows(scored, weights, ridge)
    clipped = w.clamp(max=clip)
    ones = torch.ones_like(w)
    columns = [ones, reward, w, inverse_propensity(w, reward), inverse_propensity(clipped, reward)]
    if predicted is not None and scored.log_policy is not None:
        expected = direct_method(scored.log_policy[scored.observed], predicted)
        columns += [expected, doubly_robust(w, reward, _chosen(scored, predicted), expected)]
    episodes = int(scored.episode.max()) + 1
    sums = torch.zeros(episodes, len(columns), dtype=torch.float64).index_add(0, episode, torch.stack(columns, 1))
    counts = np.concatenate([np.ones((episodes, 1)), sums.numpy()], axis=1)
    effective = float(effective_sample_size(w))
    if effective < LEAST_SAMPLE * len(w):
        raise RlftError(
            f"the log cannot answer: of {len(w)} weighted {weights}s only {effective:.1f} count (effective sample size, "
            f"below {LEAST_SAMPLE:.0%}); the logging policy hardly ever did what this policy would do. "
            "Log with more exploration, or ask about a policy that is closer to the logger"
        )
    found = bootstrap(counts, _statistics, seed, resamples)
    mean_weight = found.pop("mean_weight")
    return Estimates(
        value=found,
        rows=len(w),
        effective_rows=effective,
        clip_rate=float((w > clip).double().mean()),
        mean_weight=mean_weight,
        reward_model_r2=None if predicted is None else _r2(reward, _chosen(scored, predicted)),
    )


def _rows(scored: Scored, weights: Weights, ridge: float) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Episode [R], reward [R] and weight [R] of every row with a reward, and predicted rewards [R, A] where there are."""
    if weights == "episode":
        episodes = int(scored.episode.max()) + 1

        def total(x: Tensor) -> Tensor:
            return torch.zeros(episodes, dtype=torch.float64).index_add(0, scored.episode, x)

        known = total(scored.observed.double()) > 0
        w = importance_ratio(total(scored.log_prob), total(scored.behaviour_log_prob), np.inf)
        return torch.arange(episodes)[known], total(scored.reward)[known], w[known], None
    seen = scored.observed
    w = importance_ratio(scored.log_prob, scored.behaviour_log_prob, np.inf)[seen]
    predicted = predicted_rewards(scored, ridge)[seen] if scored.belief is not None else None
    return scored.episode[seen], scored.reward[seen], w, predicted


def _chosen(scored: Scored, predicted: Tensor) -> Tensor:
    """Predicted reward [R] of the logged actions."""
    return predicted.gather(-1, scored.action[scored.observed][:, None]).squeeze(-1)


def _statistics(totals: Floats) -> dict[str, Floats]:
    """Estimates [R] from sums [R, 6 or 8] over episodes."""
    episodes, rows, reward, w, ips, clipped = totals[:, :6].T
    found = {
        "logged": ratio(reward, episodes),  # value of the logging policy
        "ips": ratio(ips, episodes),
        "clipped_ips": ratio(clipped, episodes),
        "snips": ratio(ips, w) * ratio(rows, episodes),
        "mean_weight": ratio(w, rows),
    }
    if totals.shape[1] > 6:
        found |= {"dm": ratio(totals[:, 6], episodes), "dr": ratio(totals[:, 7], episodes)}
    return found


def _r2(reward: Tensor, predicted: Tensor) -> float:
    """Part of the variance of held-out rewards [R] that their predictions explain; 0 where they do not vary."""
    variance = float(((reward - reward.mean()) ** 2).sum())
    return 1 - float(((reward - predicted) ** 2).sum()) / variance if variance > 0 else 0.0


def require_chances(log: Log) -> None:
    """RlftError for the log of a policy that left nothing to chance; importance weights are of no use there."""
    if log.header.deterministic or all(p == 1.0 for episode in log.episodes for p in episode.propensity):
        raise RlftError(
            f"{log.path}: was written by a deterministic policy, which says nothing of what other actions earn; write one "
            "with chances: rlft simulate-logs ... explore=epsilon_greedy"
        )


__all__ = ["Estimates", "Scored", "decisions_of", "estimate", "require_chances", "score_log", "weights_of"]
