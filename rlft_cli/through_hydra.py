"""The only module that calls Hydra: composes what only Hydra can compose, and runs a verb through it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlft_cli.compose import Composed
from rlft_cli.config import resolved
from rlft_cli.errors import UsageError
from rlft_cli.overrides import quoted

Job = Callable[[DictConfig], Any]


class _OwnOptions(SearchPathPlugin):
    """Puts the user's folders before the packaged one; Hydra's own --config-dir would put them behind."""

    folders: ClassVar[list[Path]] = []

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.folders):
            search_path.prepend("--config-dir", f"file://{folder}")


def compose_with_hydra(folders: Sequence[Path], verb: str, overrides: Sequence[str]) -> Composed:
    """Compose as Hydra does, earlier folders first; UsageError with Hydra's own words where it cannot."""
    packaged = _search(folders)
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=packaged):
            config = hydra.compose(verb, overrides=list(overrides), return_hydra_config=True)
            chosen = dict(config.hydra.runtime.choices)
            sweeper = OmegaConf.to_container(config.hydra.sweeper).get("params")  # type: ignore[union-attr]
            return _composed(config, chosen, sweeper)
    except (HydraException, OmegaConfBaseException) as problem:
        raise UsageError(_first_lines(problem)) from problem


def composed_by_run(config: DictConfig) -> Composed:
    """The config of the run that Hydra has just started."""
    return _composed(config, dict(HydraConfig.get().runtime.choices), None)


def run_number() -> int:
    """Which run of a sweep this is, from 0."""
    return int(HydraConfig.get().job.num)


def config_folders() -> list[Path]:
    """The folders in which this run looks for options, the user's own first."""
    sources = HydraConfig.get().runtime.config_sources
    return [Path(source.path) for source in sources if source.schema == "file" and source.path]


def run_choices() -> list[str]:
    """What the user chose for this run: ["seed=1", "algo=dqn"]."""
    return [str(override) for override in HydraConfig.get().overrides.task]


def with_options(config: DictConfig, chosen: dict[str, str | None]) -> DictConfig:
    """The checked config, filled in, with the names of the chosen options under ``options``, so that a run folder tells them."""
    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    return OmegaConf.create({"options": chosen, **resolved({str(key): value for key, value in plain.items()})[0]})


def run(job: Job, folders: Sequence[Path], verb: str, flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Run a verb as ``hydra.main`` does; a sweep's own files go to a folder that is removed."""
    before = sys.argv
    packaged = _search(folders)
    with tempfile.TemporaryDirectory(prefix="rlft-sweep-") as scratch:
        given = any(text.lstrip("+").startswith("hydra.sweep.dir=") for text in overrides)
        sys.argv = [f"rlft {verb}", *flags, *overrides, *([] if given else [f"hydra.sweep.dir={quoted(scratch)}"])]
        try:
            hydra.main(version_base="1.3", config_path=packaged, config_name=verb)(job)()
        except (HydraException, OmegaConfBaseException, ValueError) as problem:
            raise UsageError(_first_lines(problem)) from problem
        finally:
            sys.argv = before


def _search(folders: Sequence[Path]) -> str:
    """Tell Hydra where to look; returns the last folder, which is the one that Hydra is started with."""
    *_OwnOptions.folders, packaged = [folder.resolve() for folder in folders]
    Plugins.instance().register(_OwnOptions)
    return str(packaged)


def _composed(config: DictConfig, chosen: dict[str, Any], sweeper: Any) -> Composed:
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    assert isinstance(plain, dict)
    choices = {str(group): None if name is None else str(name) for group, name in chosen.items()}
    return Composed(
        values={str(key): value for key, value in plain.items()},
        chosen={group: name for group, name in choices.items() if not group.startswith("hydra/")},
        sweep=sweeper or {},
    )


def _first_lines(problem: Exception) -> str:
    lines = [line.strip() for line in [*str(problem).splitlines(), *str(problem.__cause__ or "").splitlines()]]
    return "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith(("full_key", "object_type"))))
