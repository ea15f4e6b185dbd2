"""Learning from which of two answers was preferred."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, margin: float) -> Tensor:
    """-log sigma(r_w - r_l - margin): scalar rewards [...] twice -> [...] (Bradley and Terry 1952; Ouyang et al. 2022, eq. 1).

    The rewards are known up to one constant for each prompt.
    """
    return -F.logsigmoid(chosen - rejected - margin)


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> Tensor:
    """-log sigma(beta ((l_w - ref_w) - (l_l - ref_l))): log-probabilities of whole answers [N] four times -> [N].

    They are sums over the tokens of an answer, never means (Rafailov et al. 2023, eq. 7).
    """
    return -F.logsigmoid(beta * ((chosen - reference_chosen) - (rejected - reference_rejected)))
