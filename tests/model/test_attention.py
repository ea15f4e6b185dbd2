"""Our plain attention against the one that each model brings: with fewer key heads, dropout aside, and with terms of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from rlft_cli.model.attention import PLAIN_ATTENTION

_SIZE = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 32, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_CAUSAL: dict[str, dict[str, Any]] = {
    "llama": _SIZE,
    "mistral": _SIZE | {"sliding_window": 4},  # in the mask
    "gemma2": _SIZE | {"attn_logit_softcapping": 0.02},  # a term of its own
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2},
}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 50}


def model(kind: Any, name: str, settings: dict[str, Any], attention: str) -> PreTrainedModel:
    torch.manual_seed(3)
    config = AutoConfig.for_model(name, **settings)
    made: PreTrainedModel = kind.from_config(config, attn_implementation=attention)
    for weight in made.parameters():
        weight.data.mul_(8)  # so that attention is far from even
    return made.eval()


def inputs() -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, 50, (3, 9), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    mask[1, :5] = 0  # padded on the left
    return ids, mask


@pytest.mark.parametrize("name", list(_CAUSAL))
def test_scores_gradients_and_steps_are_those_of_the_model(name: str) -> None:
    ids, mask = inputs()
    position = (mask.cumsum(1) - 1).clamp(min=0)
    found = []
    for attention in ("eager", PLAIN_ATTENTION):
        lm = model(AutoModelForCausalLM, name, _CAUSAL[name], attention)
        scores = lm(input_ids=ids, attention_mask=mask, position_ids=position).logits[mask.bool()]
        scores.square().mean().backward()
        past = lm(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], position_ids=position[:, :-1], use_cache=True)
        step = lm(
            input_ids=ids[:, -1:],
            attention_mask=mask,
            position_ids=position[:, -1:],
            past_key_values=past.past_key_values,
        )
        slopes = torch.cat([weight.grad.flatten() for weight in lm.parameters() if weight.grad is not None])
        found.append((scores.detach(), slopes, step.logits.detach()))
    for theirs, ours in zip(*found, strict=True):
        assert float(theirs.abs().max()) > 0.1
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_a_bias_of_positions_is_kept() -> None:
    ids, mask = inputs()
    scores = []
    for attention in ("eager", PLAIN_ATTENTION):
        t5 = model(AutoModelForSeq2SeqLM, "t5", _T5, attention)
        scores.append(t5(input_ids=ids, attention_mask=mask, decoder_input_ids=ids).logits)
    assert torch.allclose(*scores, rtol=1e-4, atol=1e-4)
