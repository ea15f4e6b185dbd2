"""Dropout as torch's: what it keeps, what it passes on, and that transformers' encoders use it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from rlft_cli.model.attention import PLAIN_ATTENTION
from rlft_cli.model.body import EncoderBody
from rlft_cli.model.dropout import Dropout, dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_what_is_kept_is_scaled_and_the_gradient_goes_the_same_way(dtype: torch.dtype, p: float) -> None:
    torch.manual_seed(5)
    x = torch.full((7, 30_001), 3.0, dtype=dtype, requires_grad=True)
    y = dropout(x, p)
    y.sum().backward()
    kept = y != 0
    assert float(kept.float().mean()) == pytest.approx(1 - p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    assert torch.allclose(y[kept].float(), torch.tensor(3.0 / (1 - p)), rtol=1e-2 if dtype == torch.bfloat16 else 2e-4)
    assert x.grad is not None and torch.equal(x.grad != 0, kept)
    assert torch.allclose(x.grad[kept].float(), y[kept].detach().float() / 3.0, rtol=1e-2)


def test_neighbours_are_drawn_independently() -> None:
    """Four draws share a random number of 64 bits: no two of them may be tied."""
    torch.manual_seed(6)
    dropped = (dropout(torch.ones(100_000, 4), 0.5) == 0).float()
    moments = torch.corrcoef(dropped.T) - torch.eye(4)
    assert float(moments.abs().max()) < 4 / 100_000**0.5
    assert abs(float(torch.corrcoef(torch.stack([dropped[:-1, 3], dropped[1:, 0]]))[0, 1])) < 4 / 100_000**0.5


def test_the_same_seed_draws_the_same() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(dropout(torch.ones(1001), 0.3))
    assert torch.equal(*drawn) and not torch.equal(drawn[0], dropout(torch.ones(1001), 0.3))


def bert(attention: str) -> BertModel:
    torch.manual_seed(8)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3, attn_implementation=attention,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


def test_an_encoder_is_the_same_without_dropout_and_thinned_out_with_it() -> None:
    ids = torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(9))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    theirs, ours = bert("eager").eval(), EncoderBody(bert(PLAIN_ATTENTION)).eval()

    def hidden() -> Tensor:
        return ours(ids, mask)

    close = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(hidden()[mask.bool()], close[mask.bool()], atol=1e-6)
    layers = {name: layer for name, layer in ours.named_modules() if isinstance(layer, nn.Dropout)}
    assert layers and all(type(layer) is Dropout for layer in layers.values())
    ours.train()
    for name, layer in layers.items():
        layer.p = 0.3 if name.endswith("self.dropout") else 0.0  # that of the attention weights alone
    assert not torch.allclose(hidden(), hidden())
