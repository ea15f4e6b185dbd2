"""Frozen copies of a policy's trainable weights: the reference policy and the target network."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from rlft_cli.returns import polyak


class Snapshot:
    """A policy as it was: only the trainable weights are copied (all, or those outside the body), the rest is shared."""

    def __init__(self, policy: nn.Module, which: Literal["all", "head"] = "all") -> None:
        self._policy = policy
        self.weights = {
            name: w.detach().clone()
            for name, w in policy.named_parameters()
            if w.requires_grad and (which == "all" or not name.startswith("body."))
        }

    @torch.no_grad()
    def __call__(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Score actions [N, T] with the copied weights, without gradient and without dropout."""
        training = self._policy.training
        self._policy.eval()
        output: Output = functional_call(self._policy, self.weights, (observation, action))
        self._policy.train(training)
        return output

    def distance(self) -> float:
        """Euclidean distance to the policy's weights of now."""
        now = dict(self._policy.named_parameters())
        squares = [((now[name].detach() - w).float() ** 2).sum() for name, w in self.weights.items()]
        return float(torch.stack(squares).sum().sqrt()) if squares else 0.0

    def state_dict(self) -> dict[str, Any]:
        """The copied weights."""
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the copied weights."""
        for name, tensor in state["weights"].items():
            self.weights[name].copy_(tensor)


class TargetNetwork(Snapshot):
    """A snapshot that follows the policy on one declared schedule; ``lag`` is the number of updates since it last moved."""

    def __init__(
        self,
        policy: nn.Module,
        *,
        kind: Literal["polyak", "hard"],
        which: Literal["all", "head"],
        tau: float,
        interval: int,
    ) -> None:
        super().__init__(policy, which)
        if not self.weights:
            raise UsageError(
                "algo.target_weights=head copies the weights outside the pretrained body, and this policy trains none there; "
                "type algo.target_weights=all"
            )
        self._kind, self._tau, self._interval = kind, tau, interval
        self.updates, self.lag = 0, 0

    def follow(self) -> None:
        """Call once after each optimizer step: Polyak by tau, or a hard copy every ``interval`` updates."""
        self.updates += 1
        self.lag += 1
        if self._kind == "hard" and self.updates % self._interval:
            return
        polyak(self.weights, dict(self._policy.named_parameters()), self._tau if self._kind == "polyak" else 1.0)
        self.lag = 0

    def state_dict(self) -> dict[str, Any]:
        """The copied weights and the place in the schedule."""
        return {"weights": self.weights, "updates": self.updates, "lag": self.lag}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore weights and schedule."""
        super().load_state_dict(state)
        self.updates, self.lag = state["updates"], state["lag"]
