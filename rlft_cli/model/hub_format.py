"""Whether a folder holds a whole pretrained model in Hub format, with safetensors weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path

KEPT = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja")  # never *.bin, *.pt, *.pkl: unpickling runs code


class NotGiven(Exception):
    """A source that does not give its weights; the text says in a few words why not."""


def refusal(folder: Path) -> str | None:
    """Say why a folder cannot be used as pretrained weights; None where it can."""
    if not folder.is_dir():
        return "it is a file, not a folder" if folder.exists() else "no such folder"
    if not (folder / "config.json").is_file():
        return "it has no config.json"
    index = folder / "model.safetensors.index.json"
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values())) if index.is_file() else []
    except (ValueError, KeyError, AttributeError):
        return f"{index.name} is damaged"
    if not shards and not (folder / "model.safetensors").is_file():
        pickled = [file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for file in folder.glob(pattern)]
        return (
            f"it holds {pickled[0]} but no safetensors; pickled weights are never read, load it in transformers and "
            "save_pretrained it"
            if pickled
            else "it has no model.safetensors"
        )
    for name in shards or ["model.safetensors"]:
        if fault := _weights_fault(folder / name):
            return fault
    vocabularies = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
    if not any(file.stat().st_size for pattern in vocabularies for file in folder.glob(pattern)):
        return "it has no tokenizer files"
    return None


def _weights_fault(file: Path) -> str | None:
    """Compare a safetensors file's size with what its header says: 8 bytes n, n bytes of JSON, the tensors."""
    if not file.is_file():
        return f"{file.name} is missing"
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length < size else {}
        end = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return f"{file.name} is cut off or damaged"
    whole = 8 + int(length) + int(end)
    return None if size == whole else f"{file.name} is cut off or damaged: {size} bytes, its header says {whole}"
