"""Law 1 for language models: acting token by token equals scoring in one pass, however prompts are batched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from toy_replies import act, act_values, prompts, replies
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.errors import RlftError
from rlft_cli.model import Output
from rlft_cli.model.lstm import LstmConfig, LstmLanguageModel
from rlft_cli.model.tokens import TokenPolicy
from rlft_cli.task import State

VOCABULARY = 101  # one more than the tokenizer has: a row that means nothing
SPECIAL = ["<pad>", "<unk>", "<eos>", "<user>", "<assistant>"]
WORDS = SPECIAL + [f"w{n}" for n in range(95)]
EOS = 2
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def make_codec(pad_id: int = 0) -> Any:
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>"],
    )
    fast.chat_template = (
        "{% for m in messages %}<{{ m.role }}> {{ m.content }} <eos> {% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return SimpleNamespace(tokenizer=fast, pad_id=pad_id, unk_id=1, eos_id=EOS)


def llama() -> nn.Module:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def gpt2() -> nn.Module:
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config)


def build(make: Callable[[], nn.Module], reads: frozenset[str] = frozenset()) -> TokenPolicy:
    torch.manual_seed(0)
    return TokenPolicy(body=make(), codec=make_codec(), reads=reads).eval()


def select(observation: dict[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in observation.items()}


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("lengths", [[6, 6], [9, 1, 4], [1, 1], [5]])
def test_acting_is_learning(make: Callable[[], nn.Module], samples: int, lengths: list[int]) -> None:
    policy, observation = build(make), prompts(lengths)
    action = replies(len(lengths) * samples, 6)
    scored: Output = policy(observation, action)
    assert scored.scores.shape == (len(lengths) * samples, 6, VOCABULARY) and scored.scores.dtype == torch.float32
    torch.testing.assert_close(act(policy, observation, action), scored.scores, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(act(policy, observation, action), scored.scores.detach(), **CLOSE)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_scores_are_those_of_the_bare_model_without_padding(make: Callable[[], nn.Module]) -> None:
    policy, observation, action = build(make), prompts([9, 1, 4]), replies(3, 6)
    scores = policy(observation, action).scores
    for row, length in enumerate([9, 1, 4]):
        ids = torch.cat([observation["prompt_ids"][row, -length:], action[row, :-1]])[None]
        bare = policy.body(input_ids=ids).logits[0, -6:].masked_fill(policy.illegal, ILLEGAL_SCORE)
        torch.testing.assert_close(scores[row], bare, **CLOSE)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("samples", [1, 2])
def test_neither_padding_nor_its_id_nor_the_order_of_rows_matters(make: Callable[[], nn.Module], samples: int) -> None:
    policy, action = build(make), replies(3 * samples, 4)
    scores = policy(prompts([5, 2, 7]), action).scores
    for pad, extra in [(EOS, 0), (55, 3), (10_000, 1), (-1, 2)]:  # pad ids that are text, or that the model lacks
        observation = prompts([5, 2, 7], pad=pad, extra=extra)
        torch.testing.assert_close(policy(observation, action).scores, scores, **CLOSE)
        torch.testing.assert_close(act(policy, observation, action), scores, **CLOSE)
    order = [2, 0, 1]
    rows = [n * samples + k for n in order for k in range(samples)]
    shuffled = policy(select(prompts([5, 2, 7]), order), action[rows]).scores
    torch.testing.assert_close(shuffled, scores[rows], **CLOSE)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("samples", [1, 2])
def test_ids_after_the_end_change_nothing_before(make: Callable[[], nn.Module], samples: int) -> None:
    policy, observation, action = build(make), prompts([5, 2]), replies(2 * samples, 6)
    action[0, 2:] = EOS
    other = action.clone()
    other[0, 3:] = torch.tensor([-1, 10_000, 0])
    before, after = policy(observation, action).scores, policy(observation, other).scores
    torch.testing.assert_close(after[0, :4], before[0, :4], **CLOSE)
    torch.testing.assert_close(after[1:], before[1:], **CLOSE)
    assert torch.isfinite(after).all()
    torch.testing.assert_close(act(policy, observation, other), after, **CLOSE)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_prompts_are_read_once_and_give_the_gradient_of_repeated_ones(make: Callable[[], nn.Module]) -> None:
    policy, observation, action = build(make, frozenset({"value"})), prompts([9, 1, 4]), replies(6, 4)
    assert policy.value is not None
    nn.init.normal_(policy.value.weight, generator=torch.Generator().manual_seed(1))
    repeated = select(observation, [0, 0, 1, 1, 2, 2])
    gradients, read = [], []
    hook = policy.body.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    for given in (observation, repeated):
        output = policy(given, action)
        policy.zero_grad()
        loss = output.scores.log_softmax(-1).gather(-1, action[..., None]).sum() + output.value.square().sum()
        loss.backward()
        gradients.append({name: weight.grad.clone() for name, weight in policy.named_parameters()})
    hook.remove()
    assert read == [(3, 8), (6, 4), (6, 12)]
    for name, gradient in gradients[0].items():
        assert torch.isfinite(gradient).all(), name
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-3, rtol=1e-4, msg=name)  # sums of ~100 terms


def test_begin_and_step_also_work_with_a_gradient() -> None:
    policy, observation, action = build(llama), prompts([5, 2]), replies(4, 3)
    act(policy, observation, action).logsumexp(-1).sum().backward()
    stepped = {name: weight.grad.clone() for name, weight in policy.named_parameters()}
    policy.zero_grad()
    policy(observation, action).scores.logsumexp(-1).sum().backward()
    for name, weight in policy.named_parameters():
        torch.testing.assert_close(stepped[name], weight.grad, atol=1e-4, rtol=1e-4, msg=name)


def lstm_body() -> nn.Module:
    config = LstmConfig(
        vocab_size=VOCABULARY, embedding_size=8, hidden_size=12, num_layers=1, bidirectional=False, dropout=0.0
    )
    return LstmLanguageModel(config)


@pytest.mark.parametrize("make", [llama, gpt2, lstm_body])
def test_finished_rows_leave_the_batch_and_the_others_stay_as_they_are(make: Callable[[], nn.Module]) -> None:
    """Of 6 rows, 1, 0, 3 and 1 finish: those that leave are at least a quarter of what is left, and there is always a row."""
    policy, observation, action = build(make, frozenset({"value"})), prompts([9, 1, 4]), replies(6, 6)
    assert policy.value is not None
    nn.init.normal_(policy.value.weight, generator=torch.Generator().manual_seed(1))
    read = []
    policy.body.register_forward_pre_hook(lambda _, __, given: read.append(len(given["input_ids"])), with_kwargs=True)
    done = torch.zeros(6, 6, dtype=torch.bool)  # [t, N]
    done[1:, 4], done[3:, 0:3], done[4:, 5] = True, True, True
    with torch.no_grad():
        cache, previous = policy.begin(observation, 2), torch.full((6,), -1)
        for t in range(6):
            state = State(t=t, previous=previous, length=torch.full((6,), 6), done=done[t])
            output, cache = policy.step(cache, state)
            known = policy(observation, action)
            read.pop(), read.pop()
            live = ~done[t]
            torch.testing.assert_close(output.scores[live], known.scores[live, t], **CLOSE)
            torch.testing.assert_close(output.value[live], known.value[live, t], **CLOSE)
            assert output.scores.shape == (6, VOCABULARY) and output.value.shape == (6,)
            previous = torch.where(live, action[:, t], 7)
    assert read == [3, 6, 6, 2, 1, 1], "prompts, then the rows of t = 1 to 5: one of six is too few to leave"


@pytest.mark.parametrize("make", [llama, gpt2])
def test_marks_are_illegal_and_the_end_is_not(make: Callable[[], nn.Module]) -> None:
    policy, observation, action = build(make), prompts([3]), replies(1, 2)
    for scores in (policy(observation, action).scores, act(policy, observation, action)):
        assert (scores == ILLEGAL_SCORE).nonzero()[:, 2].unique().tolist() == [0, 1, 3, 4, 100]
    assert not policy.illegal[EOS] and "illegal" not in policy.state_dict()


@pytest.mark.parametrize("pad_id", [EOS, 50])
def test_the_pad_id_stays_legal_where_it_is_the_end_or_a_word(pad_id: int) -> None:
    policy = TokenPolicy(body=llama(), codec=make_codec(pad_id=pad_id), reads=frozenset())
    assert policy.illegal.nonzero().flatten().tolist() == [0, 1, 3, 4, 100]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_value_reads_the_states_that_give_the_scores(make: Callable[[], nn.Module]) -> None:
    policy, observation, action = build(make, frozenset({"value"})), prompts([5, 2]), replies(4, 3)
    assert policy.value is not None
    assert policy(observation, action).value.abs().max() == 0
    with torch.no_grad():  # read word 9's own output weights: the value is then its score
        policy.value.weight.copy_(policy.body.get_output_embeddings().weight[9:10])
    output = policy(observation, action)
    torch.testing.assert_close(output.value, output.scores[..., 9], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(act_values(policy, observation, action), output.value, **CLOSE)
    assert build(make)(observation, action).value is None


def test_lora_may_wrap_the_body() -> None:
    policy, observation, action = build(llama), prompts([5, 2]), replies(4, 3)
    before = policy(observation, action).scores
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    policy.body = get_peft_model(policy.body, lora)
    torch.testing.assert_close(policy(observation, action).scores, before, **CLOSE)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, generator=torch.Generator().manual_seed(3))
    changed = policy(observation, action).scores
    assert (changed - before).abs().max() > 0.01
    torch.testing.assert_close(act(policy, observation, action), changed, **CLOSE)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_soft_prompt_is_read_before_every_prompt(make: Callable[[], nn.Module], samples: int) -> None:
    """Vectors of words 11 and 12 as the soft prompt are those words before each prompt, padded or not, acting or not."""
    policy, observation, action = build(make, frozenset({"value"})), prompts([5, 2]), replies(2 * samples, 4)
    words = torch.tensor([[11, 12], [11, 12]])
    spelled = {
        "id": observation["id"],
        "prompt_ids": torch.cat([words, observation["prompt_ids"]], dim=1),
        "prompt_mask": torch.cat([torch.ones(2, 2).bool(), observation["prompt_mask"]], dim=1),
    }
    expected = policy(spelled, action)
    policy.prompt = nn.Parameter(policy.body.get_input_embeddings().weight[11:13].detach().clone())
    found = policy(observation, action)
    torch.testing.assert_close((found.scores, found.value), (expected.scores, expected.value), **CLOSE)
    torch.testing.assert_close(act(policy, observation, action), expected.scores, **CLOSE)
    found.scores.logsumexp(-1).sum().backward()
    assert policy.prompt.grad is not None and policy.prompt.grad.abs().min() > 0
    policy.prompt = nn.Parameter(torch.zeros(60, 32))
    with pytest.raises(RlftError, match="make 68 tokens, the model reads 64"):
        policy(observation, action)


def test_half_precision_gives_finite_float_scores() -> None:
    policy, observation, action = build(llama, frozenset({"value"})), prompts([5, 2]), replies(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = policy(observation, action)
        stepped = act(policy, observation, action)
    assert output.scores.dtype == output.value.dtype == torch.float32
    assert torch.isfinite(output.scores).all() and torch.isfinite(stepped).all()
    torch.testing.assert_close(stepped, output.scores, atol=0.3, rtol=0.05)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    codec = make_codec()
    codec.eos_id = 5000
    with pytest.raises(RlftError, match="ends replies with id 5000, the model knows ids 0 to 100"):
        TokenPolicy(body=llama(), codec=codec, reads=frozenset())


def test_a_body_that_keeps_no_cache_is_refused_and_not_misread() -> None:
    policy = build(gpt2)
    policy.body.activation_checkpointing_enable()
    policy.train()
    with pytest.raises(RlftError, match="kept no cache"):
        policy.begin(prompts([4, 2]), 2)


def test_decoder_reads_a_folder_again_with_its_heads(tmp_path: Path) -> None:
    decoder = pytest.importorskip("rlft_cli.model.decoder")
    head = pytest.importorskip("rlft_cli.model.head")
    policy, observation, action = build(gpt2, frozenset({"value"})), prompts([5, 2]), replies(4, 3)
    nn.init.normal_(policy.value.weight)
    policy.body.save_pretrained(tmp_path)
    make_codec().tokenizer.save_pretrained(tmp_path)
    head.save_heads(policy, tmp_path)
    settings = decoder.Decoder(sources=[str(tmp_path)], dropout=0.25, max_tokens=None, chat_template=None)
    task = SimpleNamespace(codec=settings.codec(tmp_path, []), decisions="tokens")
    again = settings.policy(tmp_path, task, frozenset({"value"})).eval()
    expected, found = policy(observation, action), again(observation, action)
    torch.testing.assert_close(
        (found.scores, found.value), (expected.scores, expected.value)
    )  # another attention kernel
    assert again.body.config.resid_pdrop == 0.25 and again.body.transformer.h[0].attn.attn_dropout.p == 0.25
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(RlftError, match="cannot read a causal language model"):
        settings.policy(tmp_path, task, frozenset())
