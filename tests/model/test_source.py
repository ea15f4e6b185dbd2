"""Weights are found, fetched once, never half, never pickled; every failure is one line that says what to do."""

import errno
import hashlib
import io
import json
import os
import shutil
import threading
import zipfile
from pathlib import Path

import huggingface_hub.constants
import numpy
import pytest
import torch
from safetensors.numpy import save_file

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model import gguf
from rlft_cli.model import wheel as wheel_module
from rlft_cli.model.hub_format import refusal
from rlft_cli.model.source import Folder, Hub, find, locate, parse
from rlft_cli.model.wheel import Wheel

HEX = "0" * 64


def hub_folder(folder: Path, size: int = 4) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"w": numpy.zeros(size, dtype=numpy.float32)}, folder / "model.safetensors")
    return folder


def build_wheel(path: Path, model: Path, extra: dict[str, bytes] | None = None) -> str:
    """Write a small wheel that holds ``model`` as tiny/model; return its source string."""
    with zipfile.ZipFile(path, "w") as opened:
        for file in model.iterdir():
            opened.write(file, f"tiny/model/{file.name}")
        info = {
            "METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
            "RECORD": "",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        for name, text in info.items():
            opened.writestr(f"tiny-1.0.dist-info/{name}", text)
        for name, data in (extra or {}).items():
            opened.writestr(name, data)
    return f"wheel:tiny==1.0!tiny/model#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def wheel(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    unwanted = ("tiny/model/../../../evil.json", "/evil.json", "tiny/model/x.bin", "tiny/__init__.py")
    return path, build_wheel(path, hub_folder(tmp_path / "made"), dict.fromkeys(unwanted, b"x"))


@pytest.fixture
def downloads(wheel: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> list[Wheel]:
    """Stand in for pip: copy the fixture's wheel and note each call."""
    calls: list[Wheel] = []

    def download(wanted: Wheel, folder: Path) -> Path:
        calls.append(wanted)
        return Path(shutil.copy(wheel[0], folder))

    monkeypatch.setattr(wheel_module, "download", download)
    return calls


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)


def test_the_three_kinds_of_source_are_read() -> None:
    assert parse("dir:~/x") == Folder(path=Path.home() / "x")
    assert parse(f"wheel:a-b==1.0!p/q/#sha256={HEX}") == Wheel(name="a-b", version="1.0", inner="p/q", sha256=HEX)
    assert parse("hub:gpt2") == Hub(repo="gpt2", revision=None)
    assert parse("hub:a/b-c.d@v1.0") == Hub(repo="a/b-c.d", revision="v1.0")


@pytest.mark.parametrize(
    "text", ["", "dir:", "minilm", "wheel:a==1!b", f"wheel:../x==1!b#sha256={HEX}", "hub:a/b/c", "ftp:x"]
)
def test_another_source_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError, match="expected dir:/path/to/folder, wheel:"):
        parse(text)


def test_a_bare_folder_is_answered_with_what_to_type() -> None:
    with pytest.raises(UsageError, match=r"model\.sources=\[dir:/my/folder\]"):
        locate(["/my/folder"])


def test_the_first_source_that_has_the_weights_wins(tmp_path: Path) -> None:
    first, second = hub_folder(tmp_path / "a"), hub_folder(tmp_path / "b")
    assert locate([f"dir:{tmp_path / 'nowhere'}", f"dir:{first}", f"dir:{second}"], tmp_path) == first


def test_folders_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    whole = hub_folder(tmp_path / "whole", size=1000)
    assert refusal(whole) is None
    data = (whole / "model.safetensors").read_bytes()
    for cut in (0, 4, 20, len(data) - 1):
        (whole / "model.safetensors").write_bytes(data[:cut])
        assert "cut off" in (refusal(whole) or "")
    (whole / "model.safetensors").unlink()
    assert refusal(whole) == "it has no model.safetensors"
    (whole / "pytorch_model.bin").write_bytes(b"x")
    assert "holds pytorch_model.bin but no safetensors" in (refusal(whole) or "")
    assert refusal(tmp_path / "none") == "no such folder"
    assert refusal(whole / "config.json") == "it is a file, not a folder"


def test_every_shard_must_be_there(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "a")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"v": "model-00002-of-00002.safetensors", "w": "model-00001-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert refusal(folder) == "model-00002-of-00002.safetensors is missing"
    save_file({"v": numpy.zeros(2)}, folder / "model-00002-of-00002.safetensors")
    assert refusal(folder) is None


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "a")
    (folder / "tokenizer.json").unlink()
    assert refusal(folder) == "it has no tokenizer files"


def test_a_wheel_is_fetched_once_and_only_its_model(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel]
) -> None:
    cache = tmp_path / "cache"
    assert find(wheel[1], cache) is None
    found = locate([wheel[1]], cache)
    assert found == cache / "rlft" / "models" / "tiny-1.0" == find(wheel[1], cache)
    names = {file.name for file in found.iterdir()}
    assert names == {"config.json", "tokenizer.json", "model.safetensors", "rlft_source.json"}
    assert not list(tmp_path.rglob("evil.json"))
    assert locate([wheel[1]], cache) == found
    assert len(downloads) == 1


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel]
) -> None:
    with pytest.raises(RlftError, match=f"expected {HEX}"):
        locate([wheel[1].partition("#")[0] + f"#sha256={HEX}"], tmp_path / "cache")
    assert _left(tmp_path) == [".tiny-1.0.lock"]


@pytest.mark.parametrize("damage", ["cut", "gone", "no mark", "tokenizer cut"])
def test_a_damaged_cache_is_fetched_again(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel], damage: str
) -> None:
    found = locate([wheel[1]], tmp_path / "cache")
    file = {"no mark": "rlft_source.json", "tokenizer cut": "tokenizer.json"}.get(damage, "model.safetensors")
    if damage in ("gone", "no mark"):
        (found / file).unlink()
    else:
        (found / file).write_bytes((found / file).read_bytes()[:-1])
    assert find(wheel[1], tmp_path / "cache") is None
    assert locate([wheel[1]], tmp_path / "cache") == found
    assert refusal(found) is None
    assert len(downloads) == 2
    assert _left(tmp_path) == [".tiny-1.0.lock", "tiny-1.0"]


def test_a_damaged_cache_that_cannot_be_fetched_again_is_named(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel]
) -> None:
    found = locate([wheel[1]], tmp_path / "cache")
    (found / "model.safetensors").unlink()
    wheel[0].write_bytes(b"not a wheel")
    with pytest.raises(RlftError, match=r"tiny-1\.0 is unusable \(model\.safetensors is missing or cut off\) and"):
        locate([wheel[1]], tmp_path / "cache")
    assert (found / "config.json").is_file()  # what was there is not lost


def test_another_wheel_of_the_same_name_replaces_the_cached_one(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel]
) -> None:
    locate([wheel[1]], tmp_path / "cache")
    other = build_wheel(wheel[0], hub_folder(tmp_path / "other", size=9))
    found = locate([other], tmp_path / "cache")
    assert (found / "model.safetensors").stat().st_size == (tmp_path / "other" / "model.safetensors").stat().st_size


def test_many_at_once_fetch_once(tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel]) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(locate([wheel[1]], tmp_path / "cache"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(downloads) == 1
    assert refusal(found[0]) is None


def test_what_a_killed_process_left_is_cleared_away(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel]
) -> None:
    left = tmp_path / "cache" / "rlft" / "models" / ".tiny-1.0-fetch-abc"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"x")
    locate([wheel[1]], tmp_path / "cache")
    assert _left(tmp_path) == [".tiny-1.0.lock", "tiny-1.0"]


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(packed: object, stream: io.BufferedWriter, size: int) -> None:
        stream.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(wheel_module.shutil, "copyfileobj", full)
    with pytest.raises(RlftError, match="is full; free some room or set RLFT_CACHE"):
        locate([wheel[1]], tmp_path / "cache")
    assert _left(tmp_path) == [".tiny-1.0.lock"]


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel]
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(RlftError, match=r"cannot write to .*cache.*; set RLFT_CACHE"):
        locate([wheel[1]], tmp_path / "cache")


def test_a_wheel_without_the_model_is_refused(tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel]) -> None:
    with pytest.raises(RlftError, match="the wheel has no tiny/other"):
        locate([wheel[1].replace("tiny/model", "tiny/other")], tmp_path / "cache")


def test_the_cache_folder_follows_the_environment(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLFT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert locate([wheel[1]]).is_relative_to(tmp_path / "xdg" / "rlft")
    monkeypatch.setenv("RLFT_CACHE", str(tmp_path / "own"))
    assert locate([wheel[1]]).is_relative_to(tmp_path / "own" / "rlft")


@pytest.mark.slow
def test_pip_downloads_from_a_folder_without_a_network(
    tmp_path: Path, wheel: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    heard: list[str] = []
    assert refusal(locate([wheel[1]], tmp_path / "cache", heard.append)) is None
    assert heard == [f"downloading tiny==1.0 (once; kept in {tmp_path / 'cache' / 'rlft' / 'models' / 'tiny-1.0'})"]
    with pytest.raises(RlftError, match=r"wheel absent==2\.0: pip did not give it: No matching distribution found"):
        locate([wheel[1].replace("tiny==1.0", "absent==2.0")], tmp_path / "cache")


def test_when_nothing_gives_the_weights_one_line_says_why_for_each(
    tmp_path: Path, wheel: tuple[Path, str], downloads: list[Wheel], no_hub: None
) -> None:
    wheel[0].write_bytes(b"other")
    with pytest.raises(RlftError) as caught:
        locate([f"dir:{tmp_path / 'x'}", wheel[1], "hub:a/b"], tmp_path / "cache")
    text = str(caught.value)
    assert "\n" not in text and caught.value.exit_status == 1
    for part in (
        "x: no such folder",
        "wheel tiny==1.0: the wheel has sha256",
        "hub a/b: not reachable (timed out)",
        "model.sources=[dir:/path/to/folder]",
        "rlft models fetch",
    ):
        assert part in text


def test_no_source_at_all(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match="the list of sources is empty"):
        locate([], tmp_path)


def test_offline_is_respected(tmp_path: Path, no_hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RlftError, match="HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"):
        locate(["hub:a/b"], tmp_path)


def test_what_the_hub_brought_before_is_found_without_asking(tmp_path: Path, no_hub: None) -> None:
    revision = "1" * 40
    snapshot = hub_folder(tmp_path / "hub" / "models--a--b" / "snapshots" / revision)
    assert locate([f"hub:a/b@{revision}"], tmp_path) == snapshot == find(f"hub:a/b@{revision}", tmp_path)
    (snapshot / "model.safetensors").unlink()
    assert find(f"hub:a/b@{revision}", tmp_path) is None


def test_the_gguf_extra_is_named_before_anything_is_downloaded(
    tmp_path: Path, downloads: list[Wheel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RlftError, match=r"pip install 'rlft\[gguf\]'"):
        locate([f"wheel:tiny==1.0!tiny/model.gguf#sha256={HEX}"], tmp_path / "cache")
    assert downloads == []


def test_a_damaged_gguf_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(RlftError, match=r"x\.gguf cannot be converted"):
        gguf.convert(tmp_path / "x.gguf", tmp_path / "out")


def _left(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "cache" / "rlft" / "models").iterdir())


# -- GGUF: a tiny random Llama written as llama.cpp's converter writes it, read back as the same function -----------

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_gguf(file: Path, model: torch.nn.Module, tokens: list[str], pre: str) -> None:
    from gguf import GGUFWriter

    config = model.config
    writer = GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHATML)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    for name, weight in model.state_dict().items():
        value = weight.float().numpy()
        if name in outer:
            writer.add_tensor(outer[name], value)
        elif name.startswith("model.layers."):  # lm_head is tied and not written
            _, _, layer, rest = name.removesuffix(".weight").split(".", 3)
            if names[rest] in ("attn_q", "attn_k"):  # llama.cpp puts the two halves of a rotation side by side
                heads = config.num_attention_heads if names[rest] == "attn_q" else config.num_key_value_heads
                shape = (heads, 2, value.shape[0] // heads // 2, value.shape[1])
                value = value.reshape(shape).swapaxes(1, 2).reshape(value.shape).copy()
            writer.add_tensor(f"blk.{layer}.{names[rest]}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tiny_llama(vocabulary: int) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).half().float().eval()


def byte_tokens() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet()), "he"]


@pytest.mark.slow
def test_a_gguf_becomes_the_same_model_in_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = byte_tokens()
    model = tiny_llama(len(tokens))
    write_gguf(tmp_path / "tiny.gguf", model, tokens, "smollm")
    gguf.convert(tmp_path / "tiny.gguf", tmp_path / "out")
    assert refusal(tmp_path / "out") is None
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    ids = torch.tensor([[5, 77, 8, 2, 40]])
    with torch.no_grad():
        torch.testing.assert_close(back(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)
    assert back.lm_head.weight is back.model.embed_tokens.weight  # tied
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == CHATML
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert back.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.tokenize("he  12") == ["he", "Ġ", "Ġ", "1", "2"]


@pytest.mark.slow
def test_a_gguf_whose_text_is_cut_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    tokens = byte_tokens()
    write_gguf(tmp_path / "tiny.gguf", tiny_llama(len(tokens)), tokens, "tekken")
    with pytest.raises(RlftError, match="its text is cut the way 'tekken'"):
        gguf.convert(tmp_path / "tiny.gguf", tmp_path / "out")
