"""Pays each decision what another one of the batch earned: a control, under which no true metric may improve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision, check_episodes, label_ids, tag_ids
from rlft_cli.metrics.text import sentence_rouge_l
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """1[a = y] of another tag or text, ROUGE-L of another reply: the rewards of a batch, exchanged half a batch apart.

    What a policy gains under it is peakiness and not learning (Choshen et al. 2020): the rewards have the right mean and
    spread, and say nothing of the decision that they are paid for. As the only reward that compares rows it depends on
    the batch; one decision alone has nothing to exchange and is paid 0.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    control: ClassVar[bool] = True
    contract: ClassVar[str] = "none"
    language: Literal["en", "zh"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of actions [N, T]."""
        if not batch.labels:
            pairs = zip(batch.predictions, batch.references, strict=True)
            earned = [sentence_rouge_l(reply, reference, self.language) for reply, reference in pairs]
            there = mask.any(1).tolist()
            exchanged = iter(
                _exchanged(torch.tensor([e for e, some in zip(earned, there, strict=True) if some])).tolist()
            )
            return at_last_decision([next(exchanged) if some else 0.0 for some in there], mask)
        check_episodes(len(batch.references), mask)
        if batch.references and isinstance(batch.references[0], str):
            target = label_ids(batch.references, batch.labels).to(action.device)[:, None]
        else:
            target = tag_ids(batch.references, batch.labels, mask)
        right = (action == target).float()
        paid = torch.zeros_like(right)
        paid[mask] = _exchanged(right[mask])
        return paid


def _exchanged(earned: Tensor) -> Tensor:
    """Rewards [M] as paid to others: that of the decision half of them on, [M]; 0 for one alone."""
    return earned.roll(-(len(earned) // 2)) if len(earned) > 1 else torch.zeros_like(earned)
