"""The LSTM: its vocabulary, padding that changes nothing, law 1, and checkpoints that give the same scores."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.errors import RlftError
from rlft_cli.model.head import save_heads
from rlft_cli.model.lstm import Lstm, LstmBody, LstmConfig, LstmLanguageModel
from rlft_cli.model.tokens import TokenPolicy
from rlft_cli.model.vocabulary import LstmCodec, join_words, segment
from rlft_cli.task import State

CORPUS = ["one two three four five, six seven!", "eight nine ten eleven twelve.", "I'd like a flat white, please."]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SETTINGS = Lstm(
    embedding_width=12,
    hidden_width=16,
    layers=2,
    bidirectional=True,
    dropout=0.2,
    head_width=8,
    pooling="mean",
    max_vocabulary=100,
    min_count=1,
    lowercase=False,
    max_tokens=64,
)


def codec_of(corpus: list[str], lowercase: bool = False, min_count: int = 1, max_vocabulary: int = 100) -> LstmCodec:
    return LstmCodec.train(
        corpus, max_vocabulary=max_vocabulary, min_count=min_count, lowercase=lowercase, max_tokens=64
    )


def task_of(decisions: str, codec: LstmCodec) -> Any:
    return SimpleNamespace(decisions=decisions, codec=codec, labels=["O", "B-X", "I-X"])


# -- codec ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "I'd like a flat white, please.",
        'She said "yes" and left (early); it cost $3.50!',
        "Well... 5% off at 10:30?",
        "check-in is free",
        "It\u2019s right.",
        "我想喝咖啡\uff0c谢谢。",
        "“Fine,” he said.",
    ],
)
def test_text_survives_the_vocabulary(text: str) -> None:
    codec = codec_of([text])
    assert codec.text(codec.text_ids([text])[0]) == text


def test_words_with_a_mark_inside_are_one_word() -> None:
    codec = codec_of(["It\u2019s", "don't check-in 3.50 a.b"])
    assert [len(ids) for ids in codec.text_ids(["It\u2019s", "don't", "check-in", "3.50", "a.b"])] == [1, 1, 1, 1, 3]


def test_words_of_a_tagged_sentence_are_looked_up_whole() -> None:
    codec = codec_of(["U.S.", "@user", "don't", "北京"])
    pieces = codec.word_pieces(["U.S.", "@user", "don't", "北京", "unseen", "", "<eos>", "@unseen"])
    assert [len(piece) for piece in pieces] == [1] * 8
    assert [codec.tokenizer.convert_ids_to_tokens(piece[0]) for piece in pieces] == [
        "U.S.",
        "@user",
        "don't",
        "北京",
        "<unk>",
        "<unk>",
        "<unk>",
        "@",
    ]


def test_the_vocabulary_keeps_the_most_frequent_words_that_occur_often_enough() -> None:
    codec = codec_of(["b a a c", "a b d"], min_count=2)
    assert list(codec.tokenizer.get_vocab())[:5] and set(codec.tokenizer.get_vocab()) == {
        "<pad>",
        "<unk>",
        "<eos>",
        "<user>",
        "<assistant>",
        "a",
        "b",
    }
    assert len(codec_of(["b a a c", "a b d"], max_vocabulary=6).tokenizer) == 6
    assert codec.text_ids(["a z"]) == [[5, codec.unk_id]]
    assert codec.text([5, codec.unk_id, codec.eos_id]) == "a"


def test_case_is_kept_unless_it_is_to_be_folded() -> None:
    assert codec_of(["Tea"]).text_ids(["tea"]) == [[1]]
    assert codec_of(["Tea"], lowercase=True).text_ids(["tEA"]) == [[5]]
    assert codec_of(["Tea"], lowercase=True).word_pieces(["TEA"]) == [[5]]


def test_marks_spelled_out_in_a_text_are_text() -> None:
    codec = codec_of(["stop <eos> now"])
    assert codec.eos_id not in codec.text_ids(["stop <eos> now"])[0]
    assert codec.eos_id not in codec.chat_ids([{"role": "user", "content": "<eos>"}])


def test_chat_template_ends_where_the_reply_begins() -> None:
    codec = codec_of(["tea please", "sure"])
    said = [("user", "tea"), ("assistant", "sure"), ("user", "please")]
    turns = [{"role": role, "content": content} for role, content in said]
    written = codec.tokenizer.convert_ids_to_tokens(codec.chat_ids(turns))
    assert written == ["<user>", "tea", "<assistant>", "sure", "<eos>", "<user>", "please", "<assistant>"]


def test_the_codec_reads_back_what_it_saved(tmp_path: Path) -> None:
    codec = codec_of([*CORPUS, "我想喝咖啡"], lowercase=True)
    codec.save(tmp_path)
    again = SETTINGS.codec(tmp_path, [])
    texts = ["I'd like SIX, please", "我想喝", ""]
    assert again.text_ids(texts) == codec.text_ids(texts)
    assert (again.pad_id, again.unk_id, again.eos_id, again.max_tokens) == (0, 1, 2, 64)
    automatic = AutoTokenizer.from_pretrained(tmp_path)("six please", add_special_tokens=False)["input_ids"]
    assert [automatic] == codec.text_ids(["six please"])
    with pytest.raises(RlftError, match=r"tokenizer.json: cannot read the vocabulary"):
        SETTINGS.codec(tmp_path / "missing", [])


def test_single_characters_need_no_jieba_and_words_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    assert segment("好 a").split() == ["好", "a"]
    with pytest.raises(RlftError, match=r"rlft\[zh\]"):
        segment("我想喝咖啡")


def test_joining_handles_nothing_and_quotes() -> None:
    assert join_words([]) == ""
    assert join_words(["a", '"', "b", '"', "c", '"', "d", '"']) == 'a "b" c "d"'


# -- bodies --------------------------------------------------------------------------------------------------------


def config(bidirectional: bool) -> LstmConfig:
    return LstmConfig(
        vocab_size=30, embedding_size=12, hidden_size=16, num_layers=2, bidirectional=bidirectional, dropout=0.0
    )


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_an_encoder_changes_nothing(bidirectional: bool, side: str) -> None:
    torch.manual_seed(0)
    body, lengths, width = LstmBody(config(bidirectional)), [7, 3, 5, 1], 9
    ids = torch.randint(5, 30, (4, width))
    mask = torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
    mask = mask if side == "right" else mask.flip(1)
    hidden = body(ids, mask.long())
    assert hidden.shape == (4, width, body.width) and hidden[~mask].abs().max() == 0
    for row in range(4):
        alone = body(ids[row][mask[row]][None], torch.ones(1, lengths[row]))[0]
        torch.testing.assert_close(hidden[row][mask[row]], alone, **CLOSE)


def test_padding_gets_no_gradient() -> None:
    body = LstmBody(config(True))
    body(torch.tensor([[7, 8, 9]]), torch.tensor([[1, 1, 0]])).sum().backward()
    assert body.embedding.weight.grad[9].abs().max() == 0 and body.embedding.weight.grad[8].abs().max() > 0


def prompts(lengths: list[int], extra: int = 0, pad: int = 0) -> dict[str, Tensor]:
    width = max(lengths) + extra
    rows = []
    for n, length in enumerate(lengths):
        ids = torch.randint(5, 25, (length,), generator=torch.Generator().manual_seed(n))
        rows.append(torch.cat([torch.full((width - length,), pad), ids]))
    mask = torch.arange(width)[None, :] >= width - torch.tensor(lengths)[:, None]
    return {"id": torch.arange(len(lengths)), "prompt_ids": torch.stack(rows), "prompt_mask": mask}


def act(policy: TokenPolicy, observation: dict[str, Tensor], action: Tensor) -> Tensor:
    rows, decisions = action.shape
    cache = policy.begin(observation, rows // observation["id"].shape[0])
    previous, stacked = torch.full((rows,), -1), []
    for t in range(decisions):
        state = State(t=t, previous=previous, length=torch.full((rows,), decisions), done=torch.zeros(rows).bool())
        output, cache = policy.step(cache, state)
        stacked.append(output.scores)
        previous = action[:, t]
    return torch.stack(stacked, dim=1)


def language_policy(reads: frozenset[str] = frozenset()) -> Any:
    torch.manual_seed(0)
    return SETTINGS.policy(None, task_of("tokens", codec_of(CORPUS)), reads).eval()


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("lengths", [[6, 6], [9, 1, 4], [1]])
def test_acting_is_learning(samples: int, lengths: list[int]) -> None:
    policy = language_policy()
    action = torch.randint(5, 25, (len(lengths) * samples, 5), generator=torch.Generator().manual_seed(5))
    scores = policy(prompts(lengths), action).scores
    torch.testing.assert_close(act(policy, prompts(lengths), action), scores, **CLOSE)
    padded = prompts(lengths, extra=3, pad=7)
    torch.testing.assert_close(policy(padded, action).scores, scores, **CLOSE)
    torch.testing.assert_close(act(policy, padded, action), scores, **CLOSE)
    for row, length in enumerate(lengths):
        one = {name: value[row : row + 1] for name, value in prompts(lengths).items()}
        one = {**one, "prompt_ids": one["prompt_ids"][:, -length:], "prompt_mask": one["prompt_mask"][:, -length:]}
        rows = slice(row * samples, (row + 1) * samples)
        torch.testing.assert_close(policy(one, action[rows]).scores, scores[rows], **CLOSE)
    order = list(reversed(range(len(lengths))))
    shuffled = {name: value[order] for name, value in prompts(lengths).items()}
    rows_of = [n * samples + k for n in order for k in range(samples)]
    torch.testing.assert_close(policy(shuffled, action[rows_of]).scores, scores[rows_of], **CLOSE)


def test_ids_after_the_end_change_nothing_before_and_marks_are_illegal() -> None:
    policy, action = language_policy(), torch.randint(5, 25, (2, 5))
    other = action.clone()
    other[0, 3:] = torch.tensor([-1, 9999])
    before, after = policy(prompts([4, 2]), action).scores, policy(prompts([4, 2]), other).scores
    torch.testing.assert_close(after[0, :4], before[0, :4], **CLOSE)
    assert (before == ILLEGAL_SCORE).nonzero()[:, 2].unique().tolist() == [0, 1, 3, 4]


def test_half_precision_gives_finite_float_scores() -> None:
    policy, action = language_policy(frozenset({"value"})), torch.randint(5, 25, (4, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = policy(prompts([4, 2]), action)
        output.scores.logsumexp(-1).sum().backward()
        hidden = LstmBody(config(True))(torch.tensor([[7, 8, 9]]), torch.tensor([[1, 1, 0]]))
    assert output.scores.dtype == output.value.dtype == torch.float32 and torch.isfinite(output.scores).all()
    assert torch.isfinite(hidden.float()).all()


# -- the component -------------------------------------------------------------------------------------------------


def word_observation() -> dict[str, Tensor]:
    """Two sentences of 4 and 2 words, one window each."""
    return {
        "id": torch.arange(2),
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "word_window": torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0]]),
        "word_position": torch.tensor([[0, 1, 2, 3], [0, 1, 0, 0]]),
        "window_row": torch.tensor([0, 1]),
    }


@pytest.mark.parametrize("decisions", ["tags", "classes", "tokens"])
def test_a_checkpoint_gives_the_same_scores(decisions: str, tmp_path: Path) -> None:
    codec = codec_of(CORPUS)
    task, reads = task_of(decisions, codec), frozenset({"value"})
    policy: Any = SETTINGS.policy(None, task, reads).eval()
    torch.nn.init.normal_(next(weight for name, weight in policy.named_parameters() if name.endswith("value.weight")))
    policy.body.save_pretrained(tmp_path)
    codec.save(tmp_path)
    save_heads(policy, tmp_path)
    other = replace(SETTINGS, hidden_width=99, layers=1)  # the sizes of a checkpoint are its own
    again: Any = other.policy(tmp_path, task_of(decisions, other.codec(tmp_path, [])), reads).eval()
    observation = prompts([4, 2]) if decisions == "tokens" else word_observation()
    action = torch.ones(2, 1 if decisions == "classes" else 4, dtype=torch.int64)
    expected, found = policy(observation, action), again(observation, action)
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.value, expected.value)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "rlft_lstm"


def test_a_checkpoint_of_another_task_or_cut_off_is_refused(tmp_path: Path) -> None:
    codec = codec_of(CORPUS)
    policy: Any = SETTINGS.policy(None, task_of("tags", codec), frozenset())
    policy.body.save_pretrained(tmp_path)
    with pytest.raises(RlftError, match="it is not the config of a LstmLanguageModel"):
        SETTINGS.policy(tmp_path, task_of("tokens", codec), frozenset())
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(RlftError, match="cannot read the weights"):
        SETTINGS.policy(tmp_path, task_of("tags", codec), frozenset())


def test_a_language_model_reads_forward_only_and_starts_near_the_uniform_distribution() -> None:
    policy = language_policy()
    assert isinstance(policy.body, LstmLanguageModel) and not policy.body.config.bidirectional
    scores = policy(prompts([4, 2]), torch.randint(5, 25, (2, 5))).scores
    assert scores[scores > ILLEGAL_SCORE].abs().max() < 1
