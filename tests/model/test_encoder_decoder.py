"""model=t5 from a folder in Hub format: its end mark, its prompts, its checkpoint; and folders that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from rlft_cli.episode import demonstrate
from rlft_cli.errors import RlftError
from rlft_cli.model.encoder_decoder import EncoderDecoder
from rlft_cli.task.dialogue import Dialogue
from rlft_cli.task.replies import ReplyTask
from rlft_cli.task.translation import Translation

CONFIGS = Path(__file__).parents[2] / "configs" / "model"
WORDS = ["<pad>", "</s>", "<unk>", "translate", "user:", "assistant:", "ja", "nein", "yes", "no"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What T5's folders hold: a tokenizer that closes every input with its eos and has no chat template."""
    path = tmp_path_factory.mktemp("t5")
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    fast.save_pretrained(path)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=16, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0, n_positions=40
    )
    T5ForConditionalGeneration(config).save_pretrained(path)
    return path


def model(folder: Path, name: str = "t5") -> EncoderDecoder:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    content.pop("_target_")
    return EncoderDecoder(**content | {"sources": [f"dir:{folder}"]})


def words(task: ReplyTask, ids: torch.Tensor) -> str:
    tokenizer: Any = task.codec.tokenizer  # type: ignore[attr-defined]
    return " ".join(tokenizer.convert_ids_to_tokens(ids.tolist()))


@pytest.mark.parametrize("name", ["t5", "flan_t5"])
def test_a_single_source_is_read_as_t5_was_trained_and_turns_have_their_roles(folder: Path, name: str) -> None:
    t5 = model(folder, name)
    codec = t5.codec(t5.open(), [])
    assert (codec.eos_id, codec.pad_id, codec.max_tokens) == (1, 0, 40)  # n_positions
    settings = Translation(
        instruction="translate", keep="begin", max_prompt_tokens=10, max_reply_tokens=4, language="en"
    )
    task = settings.build([], codec)
    ids = task.add([{"source": "ja nein", "target": "yes no", "origin": "f:1"}])
    assert words(task, task.collate(ids)["prompt_ids"][0]) == "translate ja nein </s>"
    assert words(task, task.demonstration(ids)[0][0]) == "yes no </s>"
    talk = Dialogue(context_turns=3, max_prompt_tokens=16, max_reply_tokens=4, replies="all", language="en", stop=[])
    said = talk.build([], codec)
    turns = [{"role": role, "content": text} for role, text in (("user", "ja"), ("assistant", "yes"), ("user", "nein"))]
    ids = said.ask([{"turns": turns, "origin": "f:1"}, {"turns": turns[:1], "origin": "f:2"}])
    prompts = said.collate(ids)
    assert words(said, prompts["prompt_ids"][0]) == "user: ja assistant: yes user: nein </s>"
    assert words(said, prompts["prompt_ids"][1][prompts["prompt_mask"][1]]) == "ja </s>"


def test_a_checkpoint_gives_the_same_scores_and_dropout_is_that_of_the_configuration(
    folder: Path, tmp_path: Path
) -> None:
    t5 = model(folder)
    task = Translation(instruction="", keep="begin", max_prompt_tokens=10, max_reply_tokens=4, language="en").build(
        [], t5.codec(folder, [])
    )
    policy: Any = t5.policy(folder, task, frozenset())
    assert policy.body.config.dropout_rate == t5.dropout == 0.1
    ids = task.add([{"source": "ja", "target": "yes", "origin": "f:1"}])
    known = demonstrate(task, task.collate(ids))
    policy.body.save_pretrained(tmp_path)
    task.codec.save(tmp_path)
    again: Any = t5.policy(tmp_path, task, frozenset())
    assert t5.codec(tmp_path, []).eos_id == 1
    with torch.no_grad():
        one, two = (each.eval()(known.observation, known.action).scores for each in (policy, again))
    assert torch.equal(one, two)


def test_what_is_no_encoder_decoder_is_refused(folder: Path, tmp_path: Path) -> None:
    t5 = model(folder)
    task = Translation(instruction="", keep="begin", max_prompt_tokens=10, max_reply_tokens=4, language="en").build(
        [], t5.codec(folder, [])
    )
    with pytest.raises(RlftError, match=r"cannot read an encoder-decoder .*rlft models fetch NAME"):
        t5.policy(tmp_path, task, frozenset())
    with pytest.raises(RlftError, match=r"no weights: .*no such folder"):
        model(tmp_path / "nowhere").open()
