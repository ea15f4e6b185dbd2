"""Laws 1 and 8 for encoder-decoders: acting token by token equals scoring in one pass, however prompts are batched."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from toy_replies import act, act_values, prompts, replies
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from rlft_cli.episode import ILLEGAL_SCORE, rollout
from rlft_cli.errors import RlftError
from rlft_cli.explore.sample import Sample
from rlft_cli.model import Output
from rlft_cli.model.seq2seq import Seq2SeqPolicy
from rlft_cli.returns import action_log_prob
from rlft_cli.task import State
from rlft_cli.task.replies import ReplyTask
from rlft_cli.task.translation import Translation

VOCABULARY = 61  # one more than the tokenizer has: a row that means nothing
WORDS = ["<pad>", "<unk>", "<eos>", "<mark>"] + [f"w{n}" for n in range(56)]
EOS = 2
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def make_codec() -> Any:
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        additional_special_tokens=["<mark>"],
    )
    return SimpleNamespace(tokenizer=fast, pad_id=0, unk_id=1, eos_id=EOS, max_tokens=40)


def t5() -> nn.Module:
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        decoder_start_token_id=0,
        eos_token_id=None,
    )
    return T5ForConditionalGeneration(config)


def bart() -> nn.Module:
    """Counts positions from the first input, padding included."""
    config = BartConfig(
        vocab_size=VOCABULARY,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=40,
        init_std=0.3,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return BartForConditionalGeneration(config)


def build(make: Callable[[], nn.Module], reads: frozenset[str] = frozenset()) -> Seq2SeqPolicy:
    torch.manual_seed(0)
    return Seq2SeqPolicy(body=make(), codec=make_codec(), reads=reads).eval()


@pytest.mark.parametrize("make", [t5, bart])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("lengths", [[6, 6], [9, 1, 4]])
def test_acting_is_learning(make: Callable[[], nn.Module], samples: int, lengths: list[int]) -> None:
    policy, observation = build(make), prompts(lengths)
    action = replies(len(lengths) * samples, 6)
    scored: Output = policy(observation, action)
    assert scored.scores.shape == (len(lengths) * samples, 6, VOCABULARY) and scored.scores.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(act(policy, observation, action), scored.scores.detach(), **CLOSE)


@pytest.mark.parametrize("make", [t5, bart])
def test_scores_are_those_of_the_bare_model_without_padding(make: Callable[[], nn.Module]) -> None:
    policy, observation, action = build(make), prompts([9, 1, 4]), replies(3, 5)
    scores = policy(observation, action).scores
    start = policy.body.config.decoder_start_token_id
    for row, length in enumerate([9, 1, 4]):
        ids = torch.cat([torch.tensor([start]), action[row, :-1]])[None]
        bare = policy.body(input_ids=observation["prompt_ids"][row, -length:][None], decoder_input_ids=ids).logits[0]
        torch.testing.assert_close(scores[row], bare.masked_fill(policy.illegal, ILLEGAL_SCORE), **CLOSE)


@pytest.mark.parametrize("make", [t5, bart])
def test_neither_padding_nor_its_id_nor_its_side_nor_the_order_of_rows_matters(make: Callable[[], nn.Module]) -> None:
    policy, action = build(make), replies(6, 4)
    known = prompts([5, 2, 7])
    scores = policy(known, action).scores
    torch.testing.assert_close(policy(prompts([5, 2, 7], pad=999, extra=3), action).scores, scores, **CLOSE)
    right = {
        "id": known["id"],
        "prompt_ids": torch.stack([row.roll(n) for row, n in zip(known["prompt_ids"], (5, 2, 0), strict=True)]),
        "prompt_mask": torch.arange(7)[None, :] < torch.tensor([[5], [2], [7]]),
    }
    torch.testing.assert_close(policy(right, action).scores, scores, **CLOSE)
    order = torch.tensor([2, 0, 1])
    turned = {name: value[order] for name, value in known.items()}
    episodes = (order[:, None] * 2 + torch.arange(2)).reshape(-1)
    torch.testing.assert_close(policy(turned, action[episodes]).scores, scores[episodes], **CLOSE)


def test_what_stands_after_a_token_does_not_change_its_score() -> None:
    policy, observation, action = build(t5), prompts([4, 6]), replies(2, 5)
    changed = action.clone()
    changed[:, 3:] = torch.tensor([-1, 999])
    scores = policy(observation, action).scores
    torch.testing.assert_close(policy(observation, changed).scores[:, :4], scores[:, :4], **CLOSE)


def test_marks_and_rows_without_a_token_are_illegal_and_the_end_is_not() -> None:
    policy = build(t5)
    assert policy.illegal.nonzero().squeeze(-1).tolist() == [0, 1, 3, 60]
    scores = policy(prompts([3]), replies(1, 2)).scores
    assert bool((scores[..., policy.illegal] == ILLEGAL_SCORE).all())


def test_values_are_those_of_the_steps_and_begin_at_zero() -> None:
    policy, observation, action = build(t5, frozenset({"value"})), prompts([3, 5]), replies(4, 4)
    value = policy(observation, action).value
    assert torch.equal(value, torch.zeros(4, 4))
    assert policy.value is not None
    nn.init.normal_(policy.value.weight)
    value = policy(observation, action).value
    stepped = act_values(policy, observation, action)
    assert bool((value != 0).all())
    torch.testing.assert_close(stepped, value, **CLOSE)


def test_the_log_probability_of_a_sample_is_that_of_its_score() -> None:
    """Law 8, through rollout(), with LoRA around the body."""
    policy = build(t5)
    names = ["q", "v", "wi"]
    policy.body = get_peft_model(policy.body, LoraConfig(r=2, target_modules=names, init_lora_weights=False))
    policy.eval()
    settings = Translation(instruction="", keep="begin", max_prompt_tokens=8, max_reply_tokens=5, language="en")
    task = ReplyTask(settings, make_codec())
    explore = Sample(temperature=1.3, top_k=0, top_p=1.0)
    done = rollout(
        policy,  # type: ignore[arg-type]  # an nn.Module that is a Policy
        task,
        prompts([6, 3]),
        explore,
        samples=3,
        progress=0.0,
        generator=torch.Generator().manual_seed(0),
        values=lambda scores: scores,
    )
    scored = action_log_prob(explore.warp(policy(done.observation, done.action).scores), done.action)
    torch.testing.assert_close(done.log_prob[done.mask], scored[done.mask].detach(), atol=1e-5, rtol=1e-5)
    assert len(set(map(tuple, done.action.tolist()))) > 2


@pytest.mark.parametrize("make", [t5, bart])
def test_replies_that_are_done_leave_the_batch_and_the_others_do_not_notice(make: Callable[[], nn.Module]) -> None:
    policy, observation, action = build(make, frozenset({"value"})), prompts([6, 2]), replies(4, 5)
    ends = torch.tensor([1, 5, 3, 1])  # decisions of each reply
    scored: Output = policy(observation, action)
    cache = policy.begin(observation, 2)
    for t in range(5):
        previous = action[:, t - 1] if t else torch.full((4,), -1)
        state = State(t=t, previous=previous, length=ends, done=ends <= t)
        output, cache = policy.step(cache, state)
        here = ends > t
        torch.testing.assert_close(output.scores[here], scored.scores[here, t], **CLOSE)
        assert output.scores.shape == (4, VOCABULARY) and output.value is not None and output.value.shape == (4,)
        assert len(cache.rows) == (4 if t == 0 else int(here.sum()))


def test_every_weight_learns_and_padding_gives_no_gradient() -> None:
    policy, action = build(t5), replies(2, 4)
    policy(prompts([3, 6]), action).scores[..., 4:60].sum().backward()
    assert [name for name, weight in policy.named_parameters() if weight.grad is None] == []


def test_a_tokenizer_of_another_model_is_refused() -> None:
    codec = make_codec()
    codec.eos_id = 70
    with pytest.raises(RlftError, match=r"ends replies with id 70 .* knows ids 0 to 60"):
        Seq2SeqPolicy(body=t5(), codec=codec, reads=frozenset())
