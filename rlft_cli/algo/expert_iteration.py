"""Expert iteration: imitate the best answer that a tree search from the policy found, and search from what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob, filtered_imitation_loss, returns_to_go


@dataclass(frozen=True, kw_only=True)
class ExpertIteration:
    """loss_t = -1[G_t > threshold] log pi(a*_t|s_t), G_t = r_t + gamma G_{t+1}, a* the best answer that was found.

    The expert is PUCT over whole answers with the policy as prior (search.py, expert.py), judged by the reactions to them;
    the apprentice imitates its choice (Anthony, Tian and Barber 2017, section 3: chosen-action targets). Scores get Gumbel
    noise first, so that the actions that are looked at are drawn from the policy without replacement (Danihelka et al. 2022):
    without it, what the policy ranks low is never tried. Every answer that is tried is an episode, and costs its reactions.
    What is not above the threshold is not imitated: where nothing good was found, the best is the policy's own, and imitating
    it would only make it surer. Without a threshold all of a* is imitated.
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    regresses: ClassVar[bool] = False
    weighs: ClassVar[bool] = False
    searches: ClassVar[bool] = True
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    simulations: Annotated[int, "[1, inf)"]
    exploration: Annotated[float, "[0, inf)"]
    temperature: Annotated[float, "(0, inf)"]
    width: Annotated[int, "[2, inf)"]
    noise: Annotated[float, "[0, inf)"]
    threshold: Annotated[float | None, "(-inf, inf)"]
    gamma: Annotated[float, "[0, 1]"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Trajectories that a search chose."""
        return frozenset({"search"})

    @property
    def uses_target(self) -> bool:
        """Nothing is bootstrapped."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Scores are the logits of the policy; they stay as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Nothing to compare."""
        return trajectory

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Cross-entropy [N, T] on what is imitated, 0 elsewhere."""
        least = -math.inf if self.threshold is None else self.threshold
        returned = returns_to_go(trajectory.reward, trajectory.mask, self.gamma)
        return filtered_imitation_loss(action_log_prob(output.scores, trajectory.action), returned, least)
