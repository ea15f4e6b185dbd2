"""Pays a reply, at its last token, with the score of a reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.alignment import at_last_decision, contexts_of, one_number_each
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """r_T = clip((s(x, y) - centre) / scale, -clip, clip), s the score of the checkpoint.

    Comparisons fix a score up to a constant only (METHODS 5); with ``centre`` and ``scale`` of replies of the reference
    policy, 0 is what that policy earns and 1 is a standard deviation. Both are measured as a run begins where they are not
    given, and are part of its configuration from then on.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    needs_prompt: ClassVar[bool] = True

    checkpoint: str
    centre: float | None
    scale: Annotated[float, "(0, inf)"] | None
    samples: Annotated[int, "[2, inf)"]
    clip: Annotated[float, "(0, inf)"]
    contract: Literal["reference", "alone", "none"]
    # Scores of replies to contexts; the pipeline puts it here, since a checkpoint is opened there.
    scorer: list[Callable[[Sequence[Any], Sequence[str]], list[float]]] = field(init=False, default_factory=list)
    measured: dict[str, float] = field(init=False, default_factory=dict)  # centre and scale that were not given

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        centre = self.measured.get("centre") if self.centre is None else self.centre
        scale = self.measured.get("scale") if self.scale is None else self.scale
        if centre is None or scale is None:
            raise RlftError(
                "reward.centre and reward.scale of the reward model are not known here: they are measured when training "
                "begins; give both, e.g. reward.centre=0 reward.scale=1"
            )
        scores = one_number_each(
            self.scorer[0](contexts_of(batch), batch.predictions), len(mask), f"the reward model {self.checkpoint}"
        )
        return at_last_decision([max(-self.clip, min(self.clip, (s - centre) / scale)) for s in scores], mask)
