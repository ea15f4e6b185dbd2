"""From the command line to a checked config to a command. Imports no torch."""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlft_cli import __version__
from rlft_cli.components import Problem, shown
from rlft_cli.compose import Composed, compose
from rlft_cli.config import check, config_folder, is_text_key
from rlft_cli.console import Console, fail
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.help import FLAGS, VERBS, complete, completion_script, overview, verb_page
from rlft_cli.options import Library
from rlft_cli.overrides import Override, for_hydra, parse, quoted
from rlft_cli.roots import ROOTS
from rlft_cli.stages import is_more, more_word, other_verb, stage_faults
from rlft_cli.suggest import did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

_SHORT = {"-h": "--help", "-m": "--multirun", "-c": "--cfg", "-p": "--package", "-cd": "--config-dir", "-i": "--info"}
_WITH_VALUE = {"--cfg": "job", "--package": None, "--config-dir": None, "--info": "all"}  # and the value to suppose
_VALUES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
INTERRUPTED = 130
PIPE_CLOSED = 141  # what a shell shows of a program that SIGPIPE ends


@dataclass(frozen=True, kw_only=True)
class Call:
    """A command line, taken apart."""

    verb: str
    flags: dict[str, str | None]
    words: list[str]  # everything that is not a flag

    @property
    def multirun(self) -> bool:
        """Whether several runs are asked for."""
        return "--multirun" in self.flags

    @property
    def running(self) -> bool:
        """Whether anything is to be started, rather than shown."""
        return not {"--cfg", "--info", "--hydra-help"} & self.flags.keys()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0, 1 for failures, 2 for wrong use, 130 for Ctrl-C."""
    try:
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except RlftError as error:
        return _failed(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # rlft train --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else "help"
    if verb in ("version", "--version", "-V"):
        return _say(f"rlft {__version__}")
    if verb == "completion":
        return _completion(arguments[1:])
    if verb in ("help", "--help", "-h"):
        verb, *rest = [word for word in arguments[1:] if not word.startswith("-")] or [""]
        if not verb:
            return _say(overview())
        arguments = [verb, *rest, "--help"]
    if verb not in ROOTS:
        hint = did_you_mean(verb, VERBS, "rlft ")
        if not hint and "=" in verb:
            hint = f"; did you mean rlft train {verb}?"
        raise UsageError(f"rlft {verb}: no such command{hint or '; rlft --help lists them'}")
    call = _take_apart(verb, arguments[1:])
    library = _library(call.flags.get("--config-dir"))
    if "--help" in call.flags:
        typed = dict(word.split("=", 1) for word in call.words if "=" in word)
        return _say(verb_page(library, verb, typed))
    return _run(call, library)


def _completion(arguments: list[str]) -> int:
    if arguments[:1] == ["words"] and len(arguments) == 2:
        words = arguments[1].split(" ")[1:]
        folder = next((words[n + 1] for n, word in enumerate(words[:-1]) if word in ("--config-dir", "-cd")), None)
        try:
            found = complete(_library(folder), words)
        except UsageError:
            return UsageError.exit_status  # a folder that is still being typed
        return _say("\n".join(found)) if found else 0
    script = completion_script(arguments[0]) if len(arguments) == 1 else None
    if script is None:
        raise UsageError('expected rlft completion bash, zsh or fish; for bash: eval "$(rlft completion bash)"')
    return _say(script)


def _take_apart(verb: str, arguments: list[str]) -> Call:
    """Split flags from words; raises UsageError for flags that do not exist."""
    flags: dict[str, str | None] = {}
    words: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = _SHORT.get(name, name)
        if not word.startswith("-") or name not in FLAGS:
            words.append(word)
        elif name in _WITH_VALUE:
            supposed = _WITH_VALUE[name]
            follows = bool(rest) and (supposed is None or not ("=" in rest[0] or rest[0].startswith("-")))
            flags[name] = value if equals else rest.pop(0) if follows else supposed
            _require_value(name, flags[name])
        else:
            flags[name] = None
    if verb == "models" and words[:1] == ["fetch"]:
        if len(words) < 2:
            raise UsageError("rlft models fetch: expected a name: rlft models fetch minilm; rlft models lists them")
        words = [f"fetch={words[1]}", *words[2:]]
    if verb == "pipeline" and (more := [word for word in words if is_more(word)]):
        words = [*(word for word in words if word not in more), more_word(more)]
    call = Call(verb=verb, flags=flags, words=words)
    if call.multirun and not call.running:
        raise UsageError("--multirun runs, --cfg and --info show one configuration: use one of them")
    if {"--resolve", "--package"} & flags.keys() and "--cfg" not in flags:
        raise UsageError("--resolve and --package go with --cfg job, which prints the configuration")
    return call


def _require_value(name: str, value: str | None) -> None:
    if not value:
        raise UsageError(f"{name} needs a value: {name} VALUE")
    if name in _VALUES and value not in _VALUES[name]:
        raise UsageError(f"{name} {value}: expected one of {', '.join(_VALUES[name])}")


def _library(own: str | None) -> Library:
    if own is not None and not Path(own).is_dir():
        raise UsageError(f"--config-dir {own}: there is no such folder (looked in {Path.cwd()})")
    return Library([*([Path(own).resolve()] if own is not None else []), config_folder()])


# -- checking ----------------------------------------------------------------------------------------------------


def _run(call: Call, library: Library) -> int:
    """Check every run that the command line asks for, then hand it to Hydra."""
    overrides, problems = _parse(call, library, [word for word in call.words if not _is_hydras(word)])
    lines = [f"{problem.key}: {problem.text}" for problem in problems]
    presets = [str(value) for one in overrides if one.key == "experiment" for value in one.values]
    if strange := [text for name in presets if (text := other_verb(library, call.verb, name)) is not None]:
        raise UsageError(_page(strange))
    swept = overrides
    if call.multirun:
        swept, more = _with_sweeper_params(call, library, overrides)
        lines += [f"{problem.key}: {problem.text} [hydra.sweeper.params]" for problem in more]
    composed = [_compose(call, library, swept, values) for values in itertools.product(*(one.values for one in swept))]
    for one in composed:
        lines += check(library, call.verb, one, running=call.running)
    if call.verb == "pipeline" and call.running and not lines:
        lines += [line for one in composed for line in stage_faults(library, one.values)]
    lines += _sweep_faults(composed)
    if lines:
        raise UsageError(_page(list(dict.fromkeys(lines))))
    added = {key for one in composed for key in one.added}
    texts = [for_hydra(override, added) for override in overrides] + [word for word in call.words if _is_hydras(word)]
    return _start(call, library, texts, len(composed))


def _parse(call: Call, library: Library, words: list[str]) -> tuple[list[Override], list[Problem]]:
    options: dict[str, list[str]] = {key: [] for key in library.root(call.verb).values}
    options |= {group: list(library.options.get(group, {})) for group in library.groups(call.verb)}

    def is_text(key: str) -> bool:
        return is_text_key(library, call.verb, key)

    return parse(words, multirun=call.multirun, is_text=is_text, options=options)


def _with_sweeper_params(
    call: Call, library: Library, overrides: list[Override]
) -> tuple[list[Override], list[Problem]]:
    """Add the sweep that YAML files ask for (hydra.sweeper.params), where the command line does not set it."""
    base = _compose(call, library, overrides, tuple(override.values[0] for override in overrides if override.values))
    typed = {override.key for override in overrides}
    words = [f"{key}={value}" for key, value in base.sweep.items() if key.lstrip("+") not in typed]
    more, problems = _parse(call, library, words)
    return [*overrides, *more], problems


def _compose(call: Call, library: Library, overrides: Sequence[Override], values: Sequence[Any]) -> Composed:
    composed = compose(library, call.verb, list(zip(overrides, values, strict=True)))
    if composed is not None:
        return composed
    from rlft_cli.through_hydra import compose_with_hydra  # slow to import

    words = [_one_value(override, value) for override, value in zip(overrides, values, strict=True)]
    return compose_with_hydra(library.folders, call.verb, words)


def _one_value(override: Override, value: Any) -> str:
    if len(override.values) == 1:
        return for_hydra(override, set())
    return f"{override.prefix}{override.key}={quoted(value) if isinstance(value, str) else shown(value)}"


def _sweep_faults(runs: Sequence[Composed]) -> list[str]:
    folders = [run.values.get("run_dir") for run in runs]
    if len(folders) == len(set(map(str, folders))) or None in folders:
        return []
    return [f"run_dir: {len(runs)} runs would write to one folder; leave it out, or set runs=FOLDER for all of them"]


def _page(lines: Sequence[str]) -> str:
    if len(lines) == 1:
        return lines[0]
    return "\n  ".join([f"{len(lines)} things to put right; nothing was started:", *lines])


def _is_hydras(word: str) -> bool:
    return word.lstrip("+~").startswith(("hydra.", "hydra/"))


# -- running -----------------------------------------------------------------------------------------------------


def _start(call: Call, library: Library, overrides: Sequence[str], runs: int) -> int:
    """Hand the checked command line to Hydra; returns the worst exit status of the runs."""
    from rlft_cli.through_hydra import run

    statuses: list[int] = []

    def job(config: DictConfig) -> float | None:
        value, status = _job(call, library, config, runs)
        statuses.append(status)
        if runs > 1:
            gc.collect()  # accelerate's forward and its model hold one another: the next run needs the memory
        return value

    given = [(name, value) for name, value in call.flags.items() if name != "--config-dir"]
    flags = [part for name, value in given for part in ((name,) if value is None else (name, value))]
    try:
        run(job, library.folders, call.verb, flags, overrides)
    except SystemExit as left:  # Hydra has said why on standard error
        return UsageError.exit_status if left.code else 0
    if runs > 1 and (failed := sum(status != 0 for status in statuses)):
        fail(f"{failed} of {runs} runs failed; the others are whole")
    return max(statuses, default=0)


def _job(call: Call, library: Library, config: DictConfig, runs: int) -> tuple[float | None, int]:
    """One run; failures are said and counted, so that a sweep goes on. A number returned is a sweeper's objective."""
    from rlft_cli.through_hydra import composed_by_run, run_choices, run_number, with_options

    try:
        composed = composed_by_run(config)
        lines = check(library, call.verb, composed)
        if lines:
            raise UsageError(_page(lines))
        config = with_options(config, composed.chosen)
        console = Console(config.console)
        if call.multirun:
            number = run_number() + 1
            console.line(f"run {number} of {runs}: {' '.join(run_choices())}", run=number, runs=runs)
        command = importlib.import_module(f"rlft_cli.commands.{call.verb.replace('-', '_')}")
        return command.run(config, console), 0
    except RlftError as error:
        return None, _failed(error)
    except BrokenPipeError:  # rlft predict ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None, PIPE_CLOSED
    except Exception as error:
        if config.debug:
            fail(traceback.format_exc())
        else:
            text = " ".join(str(error).split())
            fail(f"unexpected: {type(error).__name__}: {text}; run again with debug=true for the traceback")
        return None, RlftError.exit_status


def _failed(error: RlftError) -> int:
    fail(str(error))
    return error.exit_status


def _say(text: str) -> int:
    Console("plain").line(text)
    return 0
