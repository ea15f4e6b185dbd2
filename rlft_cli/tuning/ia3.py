"""Train one factor for each number that flows through chosen layers (IA3, Liu et al. 2022) through peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peft import IA3Config
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS
from torch import nn
from transformers import PreTrainedModel

from rlft_cli.errors import UsageError
from rlft_cli.model.additions import add, merged_body


@dataclass(frozen=True, kw_only=True)
class Ia3:
    """l * (W x) for keys and values of the attention, W (l * x) for the feed-forward output, l = 1 at the start (section 3.3)."""

    adds: ClassVar[bool] = True

    target_modules: list[str] | None
    feedforward_modules: list[str] | None

    def apply(self, policy: nn.Module) -> nn.Module:
        """Wrap ``policy.body``; heads stay trainable. UsageError where peft does not know the layers of the model."""
        kind = _kind_of(policy)
        targets = self.target_modules or TARGETS.get(kind)
        inner = self.feedforward_modules if self.feedforward_modules is not None else FEEDFORWARD.get(kind, [])
        if targets is None:
            known = ", ".join(sorted(TARGETS))
            raise UsageError(
                f"tuning=ia3: which layers of a {kind or 'model of this kind'} get factors is not known (but of {known}); type "
                "tuning.target_modules=[...] and of them tuning.feedforward_modules=[...], or tuning=lora"
            )
        chosen = [name for name in inner if name in targets]
        return add(policy, IA3Config(target_modules=targets, feedforward_modules=chosen))

    def merged(self, policy: nn.Module) -> nn.Module:
        """A copy of the body with the factors merged into its weights, in float32."""
        return merged_body(policy)


def _kind_of(policy: nn.Module) -> str:
    """What transformers calls the model inside the body; empty where there is none."""
    models = (module for module in policy.modules() if isinstance(module, PreTrainedModel))
    return next((str(model.config.model_type) for model in models), "")
