"""Data sources with the defaults of their YAML, and small files to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rlft_cli.data.files import Files
from rlft_cli.data.hub import Hub
from rlft_cli.data.sample import Sample

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


def defaults(name: str) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key != "_target_"}


@pytest.fixture
def files() -> Callable[..., Files]:
    return lambda **given: Files(**{**defaults("files"), **{key: _text(value) for key, value in given.items()}})


@pytest.fixture
def hub() -> Callable[..., Hub]:
    return lambda **given: Hub(**{**defaults("hub"), **{key: _text(value) for key, value in given.items()}})


@pytest.fixture
def sample() -> Callable[..., Sample]:
    return lambda **given: Sample(**{**defaults("sample"), **given})


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write one text per split with a suffix and return the folder; a split that is None is not written."""

    def write(suffix: str, train: str | bytes, dev: str | bytes | None = "", test: str | bytes | None = "") -> Path:
        for name, content in (("train", train), ("dev", dev), ("test", test)):
            if content is not None:
                text = content or train  # "" stands for the text of train
                data = text.encode("utf-8") if isinstance(text, str) else text
                (tmp_path / f"{name}{suffix}").write_bytes(data)
        return tmp_path

    return write


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
