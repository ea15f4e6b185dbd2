"""Train a few vectors that every prompt begins with; the language model itself stays as it is (prompt tuning).

The vectors are a head of the policy and not a wrapper of its body as in peft, whose forward pass drops the positions that it
is given, so that prompts padded on the left would be read at wrong places (law 1).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlft_cli.errors import UsageError
from rlft_cli.model.tokens import TokenPolicy


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Soft prompt of ``length_tokens`` vectors, begun at embeddings of the vocabulary (Lester et al. 2021, section 3)."""

    adds: ClassVar[bool] = True
    decisions: ClassVar[tuple[str, ...]] = ("tokens",)

    length_tokens: Annotated[int, "[1, inf)"]

    def apply(self, policy: nn.Module) -> nn.Module:
        """Freeze the body and begin the prompt, or go on with a checkpoint's; UsageError where there is no place for one."""
        if not isinstance(policy, TokenPolicy) or not isinstance(policy.body, PreTrainedModel):
            raise UsageError("tuning=prompt needs a transformer language model that is a decoder; type tuning=lora")
        for weight in policy.body.parameters():
            weight.requires_grad_(False)
        if policy.prompt is not None and len(policy.prompt) != self.length_tokens:
            raise UsageError(
                f"tuning.length_tokens={self.length_tokens}, but the checkpoint has a prompt of {len(policy.prompt)}; type "
                f"tuning.length_tokens={len(policy.prompt)}"
            )
        if policy.prompt is None:
            vectors = policy.body.get_input_embeddings().weight
            assert isinstance(vectors, Tensor)
            known = (~policy.illegal).nonzero().squeeze(-1)
            chosen = known[torch.randperm(len(known))[: self.length_tokens]]
            policy.prompt = nn.Parameter(vectors[chosen].detach().clone())
        return policy

    def merged(self, policy: nn.Module) -> nn.Module:
        """A copy of the body in float32; nothing is merged into it, for the prompt is saved with the heads."""
        body = copy.deepcopy(policy.body)
        assert isinstance(body, nn.Module)
        return body.float()
