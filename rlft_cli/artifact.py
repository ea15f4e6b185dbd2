"""The run folder: its name, its configuration and log, and the card that says what a checkpoint is."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open

from rlft_cli import __version__
from rlft_cli.durable import current, disk_error, guarded, write_text
from rlft_cli.errors import RlftError, UsageError

CARD_FILE = "rlft.json"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "hydra-core", "peft", "tokenizers", "sacrebleu", "numpy")


def require_free(run_dir: str | None) -> None:
    """UsageError where the run folder that is asked for has something in it."""
    if run_dir is None:
        return
    folder = Path(run_dir).expanduser()
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise UsageError(f"run_dir={run_dir} is a file; give a folder that does not exist yet")
    raise UsageError(
        f"run_dir={run_dir} exists and is not empty, and a run is never overwritten; give another folder, or remove it "
        "yourself" + (f", or go on with that run by resume={run_dir}" if (folder / "config.yaml").is_file() else "")
    )


def new_file(key: str, given: str | None) -> Path | None:
    """Path of a file that ``key=given`` asks for; UsageError where it exists or where its folder does not."""
    if given is None:
        return None
    path = Path(given).expanduser()
    if path.exists():
        raise UsageError(f"{key}={given} exists and is not overwritten; give another name, or remove it yourself")
    if not path.parent.is_dir():
        raise UsageError(f"{key}={given}: there is no folder {path.parent}; make it, or give another path")
    return path


def create_run_folder(run_dir: str | None, runs: str, task: str, algo: str) -> Path:
    """Make an empty run folder; UsageError where the one that is asked for has something in it."""
    require_free(run_dir)
    if run_dir is not None:
        folder = Path(run_dir).expanduser()
        guarded(folder, lambda: folder.mkdir(parents=True, exist_ok=True))
        return folder
    parent = Path(runs).expanduser() / task / algo
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for n in range(1, 10_000):
        folder = parent / f"{stamp}-{n}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise disk_error(folder, error) from error
    raise RlftError(f"no free name for a run folder in {parent}; give one with run_dir=...")


def truncate_log(path: Path, phase: str, step: int) -> None:
    """Drop the lines of a phase after ``step``, and a last line cut off by a kill: a resumed run writes them again."""
    if path.exists():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        kept = [row for row in rows if row["phase"] != phase or row["step"] <= step]
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a checkpoint says of itself: all that eval, predict and serve need besides the weights."""

    config: dict[str, Any]  # the resolved configuration of the run
    labels: list[str]
    precision: str  # of the autocast that the policy was trained and selected with


def write_card(folder: Path, card: Card) -> None:
    """Write the card of a checkpoint, last of all its files: their sizes in it tell a whole checkpoint."""
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    content = {
        "rlft": __version__,
        "labels": card.labels,
        "precision": card.precision,
        "files": files,
        "config": card.config,
    }
    (folder / CARD_FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def find_checkpoint(path: str, key: str) -> Path:
    """The checkpoint folder of the run folder ``key=path``, or the folder itself; UsageError where there is none."""
    folder = Path(path).expanduser()
    for candidate in (current(folder / "checkpoint"), folder):
        if (candidate / CARD_FILE).is_file():
            return candidate
    what = "has no checkpoint in it" if folder.exists() else f"does not exist (looked in {Path.cwd()})"
    if (folder / "config.yaml").is_file():
        what += f" yet: the run stopped before its first evaluation; go on with rlft train resume={path}"
        raise UsageError(f"{key}={path} {what}, or give another run folder")
    raise UsageError(f"{key}={path} {what}; give a run folder of rlft train, or the checkpoint/ folder inside one")


def read_card(folder: Path) -> Card:
    """Read the card of a checkpoint; RlftError where weights or card are damaged."""
    try:
        content = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        card = Card(config=content["config"], labels=content["labels"], precision=content["precision"])
        fault = _missing_part(folder, content["files"])
        for file in sorted(folder.glob("*.safetensors")) if fault is None else []:
            with safe_open(file, framework="pt"):
                pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        fault = f"{CARD_FILE} or weights cannot be read: {error}"
    if fault is not None:
        raise RlftError(f"{folder} is damaged or incomplete ({fault}); train again, or give another checkpoint")
    return card


def _missing_part(folder: Path, sizes: Mapping[str, int]) -> str | None:
    """Say which file of a checkpoint is missing or shorter than it was written."""
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size < size:
            return f"{name} is cut off: {path.stat().st_size} of {size} bytes"
    return None


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the resolved configuration."""
    write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def read_config(folder: Path) -> dict[str, Any]:
    """Read the resolved configuration of a run folder; RlftError where it is damaged."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        config = str(error).splitlines()[0]
    if not isinstance(config, dict):
        raise RlftError(f"{folder / 'config.yaml'} is damaged ({config}); it cannot be resumed from")
    return config


def versions() -> dict[str, str]:
    """Versions of rlft, Python and the packages that decide numbers."""
    found = {"rlft": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability()}


def git_commit() -> str | None:
    """Commit of the checkout that rlft runs from, with "+dirty" where files differ; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        head, changed = (
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=False)
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+dirty" if changed.stdout.strip() else "") if head.returncode == 0 else None
