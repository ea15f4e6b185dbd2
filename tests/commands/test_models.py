"""`rlft models` lists what is here without asking a network; `fetch` brings one model or says why not."""

import io
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rlft_cli.commands import models
from rlft_cli.console import Console
from rlft_cli.errors import UsageError


@pytest.fixture(autouse=True)
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder of three models: one here, one from a wheel, one that needs no weights."""
    here = tmp_path / "weights"
    here.mkdir()
    (tmp_path / "configs" / "model").mkdir(parents=True)
    entries = {
        "here": "# One that is here.\n# Licence: MIT\n_target_: rlft_cli.model.encoder.Encoder\n"
        f"sources: ['dir:{here}']\n",
        "wheel": "# One to fetch.\n_target_: rlft_cli.model.decoder.Decoder\n"
        f"sources: ['wheel:tiny==1.0!tiny/model#sha256={'0' * 64}', 'hub:a/b']\n",
        "lstm": "# One from nothing.\n_target_: rlft_cli.model.lstm.Lstm\nlayers: 1\n",
    }
    for name, text in entries.items():
        (tmp_path / "configs" / "model" / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(models, "_folders", lambda: [tmp_path / "configs"])
    monkeypatch.setattr(models, "find", lambda text, cache: here if text.startswith("dir:") else None)
    monkeypatch.setattr(models, "locate", lambda sources, cache, say: say(f"bringing {sources[0][:9]}") or here)
    return here


def said(fetch: str | None, tmp_path: Path) -> list[dict[str, object]]:
    stream = io.StringIO()
    models.run(OmegaConf.create({"fetch": fetch, "cache": str(tmp_path)}), Console("json", stream))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_list_says_where_each_model_is(tmp_path: Path, configs: Path) -> None:
    rows = {row["model"]: row for row in said(None, tmp_path) if "model" in row}
    assert rows["here"] == {
        "table": "models",
        "model": "here",
        "kind": "encoder",
        "weights": str(configs),
        "licence": "MIT",
    }
    assert rows["wheel"]["weights"] == "not here; from the wheel tiny 1.0, else the Hub (a/b)"
    assert rows["lstm"]["weights"] == "none needed: random start"


def test_fetch_brings_a_model_and_says_where_it_is(tmp_path: Path, configs: Path) -> None:
    heard = said("wheel", tmp_path)
    assert heard[0]["message"] == "bringing wheel:tin"
    assert heard[1] == {"message": f"wheel is in {configs}", "model": "wheel", "folder": str(configs)}


def test_a_model_from_scratch_has_nothing_to_fetch(tmp_path: Path) -> None:
    assert "nothing to fetch" in str(said("lstm", tmp_path)[0]["message"])


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model; did you mean wheel"):
        said("weel", tmp_path)
    with pytest.raises(UsageError, match="known: here, lstm, wheel"):
        said("zzzz", tmp_path)
