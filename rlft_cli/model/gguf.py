"""Turns a GGUF file (llama.cpp's format) into a folder in Hub format with safetensors, once.

The numbers are kept as fp16. A GGUF weight is ``scale * q + offset`` with fp16 scale and offset, and its norm weights
are exact in fp16; rounding the products to fp16 moves SmolLM2-135M Q4_1 by KL < 4e-5 per token, a hundredth of what
bf16 arithmetic does (1e-2) and far below the 4-bit quantisation itself, for 269 MB instead of 538 MB.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import Any

from rlft_cli.errors import RlftError

# How the text is cut before byte-level BPE, by `tokenizer.ggml.pre`. transformers 5 does not read that key and takes
# the first for all. "smollm" cuts off every digit (llama.cpp, src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM).
_PLAIN = {None, "default", "gpt-2"}
_DIGITS = {"smollm"}


def missing_extra() -> str | None:
    """Say what to install where the ``gguf`` package is missing; None where it is there."""
    if importlib.util.find_spec("gguf") is None:
        return "a GGUF file needs the gguf package; run pip install 'rlft[gguf]'"
    return None


def convert(file: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file to ``folder``; RlftError where the file cannot be converted."""
    if missing := missing_extra():
        raise RlftError(missing)
    silenced = io.StringIO()  # progress bars of transformers: only console.py prints
    try:
        with contextlib.redirect_stderr(silenced):
            tokenizer = _read_tokenizer(file)
            model = _read_model(file)
    except (OSError, ValueError, KeyError, NotImplementedError, AttributeError) as problem:
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise RlftError(f"{file.name} cannot be converted: {first}") from problem
    _separate_pad(tokenizer, model)
    with contextlib.redirect_stderr(silenced):
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for written in folder.iterdir():
        written.chmod(0o644)  # safetensors writes 0600, which would shut others out of a shared cache


def _read_tokenizer(file: Path) -> Any:
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    field = GGUFReader(file).fields.get("tokenizer.ggml.pre")
    cut = None if field is None else str(field.contents())
    if cut not in _PLAIN | _DIGITS:
        raise ValueError(f"its text is cut the way '{cut}', which is known for none of {sorted(_DIGITS)}")
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    if cut in _DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return tokenizer


def _read_model(file: Path) -> Any:
    """Read the dequantised model, rebuilt without the mark "quantised", with which transformers refuses to save it."""
    import torch
    from transformers import AutoModelForCausalLM

    build: Any = AutoModelForCausalLM  # its methods are untyped
    read = build.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    plain = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    model = build.from_config(type(read.config).from_dict(plain), dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    return model


def _separate_pad(tokenizer: Any, model: Any) -> None:
    """Give padding an id that does not end a reply: eos as padding_idx would get no gradient in the embedding."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    others = (tokenizer.unk_token, tokenizer.bos_token)
    pad = next((token for token in others if token is not None and token != tokenizer.eos_token), None)
    tokenizer.pad_token = pad
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
