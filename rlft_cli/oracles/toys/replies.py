"""Every reply of up to 4 tokens with a reference policy and a reward: the KL-regularised optimum is known by enumeration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory, blank

D = torch.float64
STEPS, V, EOS = 4, 3, 0
BETA = 0.4
Prefix = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Replies:
    """N replies over V tokens, ended by eos or the horizon, and the exact solution along each; S prefixes."""

    data: Trajectory
    state: Tensor  # [N, T] number of the prefix before each decision, 0..S-1
    reference: Tensor  # [S, V] log pi_ref
    best: Tensor  # [S, V] log pi*
    value: Tensor  # [S] V*

    def paid(self) -> Tensor:
        """Reward [N] of each reply."""
        return self.data.reward.sum(1)

    def log_prob(self, logits: Tensor) -> Tensor:
        """log p [N] of each reply under logits [S, V]."""
        each = torch.log_softmax(logits, -1)[self.state].gather(-1, self.data.action[..., None]).squeeze(-1)
        return torch.where(self.data.mask, each, torch.zeros_like(each)).sum(1)

    def tilted(self) -> Tensor:
        """pi*(y) = pi_ref(y) exp(R / beta) / Z over whole replies [N], without any recursion."""
        return torch.softmax(self.log_prob(self.reference) + self.paid() / BETA, 0)

    def log_partition(self) -> float:
        """log Z."""
        return float(torch.logsumexp(self.log_prob(self.reference) + self.paid() / BETA, 0))


def every_reply(prefix: Prefix = ()) -> list[Prefix]:
    """All ways to go on from a prefix."""
    if len(prefix) == STEPS or (prefix and prefix[-1] == EOS):
        return [prefix]
    return [reply for token in range(V) for reply in every_reply((*prefix, token))]


@cache
def replies() -> Replies:
    """The one instance."""
    chance = torch.Generator().manual_seed(3)
    every = every_reply()
    prefixes = sorted({reply[:t] for reply in every for t in range(len(reply))}, key=lambda p: (len(p), p))
    number = {prefix: n for n, prefix in enumerate(prefixes)}
    reference = torch.log_softmax(torch.randn(len(prefixes), V, generator=chance, dtype=D), -1)
    paid = torch.rand(len(every), generator=chance, dtype=D)

    def ahead(prefix: Prefix) -> Tensor:
        """Log sum over the replies that begin so of pi_ref(rest) exp(R / beta)."""
        weights = [
            sum(reference[number[reply[:t]], reply[t]] for t in range(len(prefix), len(reply))) + paid[n] / BETA
            for n, reply in enumerate(every)
            if reply[: len(prefix)] == prefix
        ]
        return torch.logsumexp(torch.stack(weights), 0)

    below = torch.stack([ahead(prefix) for prefix in prefixes])
    following = torch.stack([torch.stack([ahead((*prefix, a)) for a in range(V)]) for prefix in prefixes])
    width = max(map(len, every))
    action, state = torch.zeros(len(every), width, dtype=torch.int64), torch.zeros(len(every), width, dtype=torch.int64)
    mask, reward = torch.zeros(len(every), width, dtype=torch.bool), torch.zeros(len(every), width, dtype=D)
    for n, reply in enumerate(every):
        for t, token in enumerate(reply):
            action[n, t], state[n, t], mask[n, t] = token, number[reply[:t]], True
        reward[n, len(reply) - 1] = paid[n]
    start = blank({"id": torch.arange(len(every))}, action, mask)
    chosen = reference[state].gather(-1, action[..., None]).squeeze(-1)
    data = replace(start, reward=reward, discount=start.discount.to(D), reference_log_prob=chosen)
    return Replies(
        data=data, state=state, reference=reference, best=reference + following - below[:, None], value=BETA * below
    )
