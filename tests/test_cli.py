"""The command line: exit status, what is printed where, sweeps, help, completion; through main() and processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import DictConfig

from rlft_cli.cli import INTERRUPTED, main
from rlft_cli.console import Console
from rlft_cli.errors import RlftError
from rlft_cli.help import complete
from rlft_cli.options import Library
from toy_options import write_toy

REPOSITORY = Path(__file__).parent.parent
Run = Callable[[DictConfig, Console], float | None]


class Toy:
    """The toy options, and a stand-in for the commands that notes with what it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.configs = write_toy(folder)
        self.calls: list[DictConfig] = []
        self.behave: Run = lambda config, console: None
        for verb in ("train", "predict"):
            module = ModuleType(f"rlft_cli.commands.{verb}")
            module.__dict__["run"] = self.run
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def run(self, config: DictConfig, console: Console) -> float | None:
        self.calls.append(config)
        return self.behave(config, console)

    def __call__(self, verb: str, *words: str) -> int:
        return main([verb, "--config-dir", str(self.configs), *words])


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.syspath_prepend(str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return Toy(tmp_path, monkeypatch)


def process(*words: str, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    code = "import sys; from rlft_cli.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


# -- running -----------------------------------------------------------------------------------------------------


def test_a_run_gets_the_composed_config_and_leaves_no_files(toy: Toy) -> None:
    assert toy("train", "algo.gamma=0.75", "optim.lr=1e-3", "runs=a=b, c") == 0
    (config,) = toy.calls
    assert (config.algo.gamma, config.optim.lr, config.runs, config.passes) == (0.75, 1e-3, "a=b, c", 7.0)
    assert list(Path.cwd().iterdir()) == []


def test_logging_is_left_alone(toy: Toy) -> None:
    import logging

    before = (list(logging.getLogger().handlers), logging.getLogger().level)
    assert toy("train") == 0
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


@pytest.mark.parametrize(
    "text", ["Angela Merkel visited Paris", 'Hello, "World": (it\'s) [a=b] {c} $5 \\', "42", "#", ""]
)
def test_free_text_needs_no_quotes(toy: Toy, text: str) -> None:
    assert toy("predict", "checkpoint=runs/a,b=c d", f"text={text}") == 0
    assert (toy.calls[0].text, toy.calls[0].checkpoint) == (text, "runs/a,b=c d")


def test_new_keys_of_a_mapping_need_no_plus(toy: Toy) -> None:
    assert toy("train", "model.table.a.b=0.5", "recipe=null") == 0
    assert toy("train", "model.table={a: {b: 0.5}}") == 0
    assert [dict(config.model.table.a) for config in toy.calls] == [{"b": 0.5}] * 2
    assert toy.calls[0].passes == 3.0


def test_refusal_is_status_2_on_stderr_and_starts_nothing(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("train", "algo.gama=1", "seed=x", "--foo", "q") == 2
    out, err = capsys.readouterr()
    assert (out, toy.calls) == ("", [])
    assert err == (
        "rlft: error: 4 things to put right; nothing was started:\n"
        "  --foo: no such flag\n"
        "  q: expected KEY=VALUE; did you mean algo=q?\n"
        "  seed: expected a whole number in [0, 4294967295], got 'x'\n"
        "  algo.gama: no such key of algo=q; did you mean algo.gamma?\n"
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["trian"], "rlft trian: no such command; did you mean rlft train?"),
        (["algo=dqn"], "rlft algo=dqn: no such command; did you mean rlft train algo=dqn?"),
        (["xyz"], "rlft xyz: no such command; rlft --help lists them"),
        (["train", "--cfg", "jbo"], "--cfg jbo: expected one of job, hydra, all"),
        (["train", "--cfg", "job", "-m"], "--multirun runs, --cfg and --info show one configuration: use one of them"),
        (["train", "--resolve"], "--resolve and --package go with --cfg job, which prints the configuration"),
        (["train", "--config-dir", "/nowhere"], "--config-dir /nowhere: there is no such folder"),
        (["train", "--config-dir"], "--config-dir needs a value: --config-dir VALUE"),
        (["train", "--seed=3"], "--seed=3: no such flag; did you mean seed=3?"),
        (["train", "seed=1,2"], "seed=1,2: several values are a sweep of runs: add -m; one list is typed seed=[1,2]"),
        (["train", "passes=("], "passes=(: the value cannot be read; text with such signs is typed in two pairs of"),
        (["eval"], "checkpoint: must be given: type checkpoint=...  (Checkpoint or run folder to evaluate; a path.)"),
        (
            ["eval", "checkpoint=a", "algo=dqn"],
            "algo: rlft eval has no such key (but rlft train and rlft verify); rlft eval --help",
        ),
        (["eval", "checkpoint=a", "data.dir=b"], "data.dir: data is null; choose it first: data=files"),
        (["models", "fetch"], "rlft models fetch: expected a name: rlft models fetch minilm; rlft models lists them"),
        (["completion", "tcsh"], "expected rlft completion bash, zsh or fish"),
    ],
)
def test_wrong_use(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"rlft: error: {text}")
    assert "Traceback" not in err


def test_failures_in_a_run(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: DictConfig, console: Console) -> None:
        raise RlftError("the disk is full") if config.seed == 1 else ValueError("a\nb")

    toy.behave = fail
    assert toy("train") == 1
    assert capsys.readouterr().err == "rlft: error: the disk is full\n"
    assert toy("train", "seed=2") == 1
    expected = "rlft: error: unexpected: ValueError: a b; run again with debug=true for the traceback\n"
    assert capsys.readouterr().err == expected
    assert toy("train", "seed=2", "debug=true") == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt(toy: Toy) -> None:
    def interrupt(config: DictConfig, console: Console) -> None:
        raise KeyboardInterrupt

    toy.behave = interrupt
    assert toy("train", "-m", "seed=1,2") == INTERRUPTED
    assert len(toy.calls) == 1


# -- sweeps ------------------------------------------------------------------------------------------------------


def test_a_sweep_runs_every_combination(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("train", "-m", "algo=q,gradient", "seed=range(1,3)", "runs='a b'", "console=json") == 0
    assert [(config.explore._target_, config.seed) for config in toy.calls] == [
        ("toy_parts.Epsilon", 1), ("toy_parts.Epsilon", 2), ("toy_parts.Sample", 1), ("toy_parts.Sample", 2)
    ]  # fmt: skip
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {"message": "run 1 of 4: algo=q seed=1 runs='a b' console=json", "run": 1, "runs": 4}
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_failed_run(toy: Toy) -> None:
    def fail_first(config: DictConfig, console: Console) -> None:
        if config.seed == 1:
            raise RlftError("no")

    toy.behave = fail_first
    assert toy("train", "-m", "seed=1,2,3") == 1
    assert len(toy.calls) == 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["seed=1,2", "algo=q,labels", "feedback=bandit"],
            "algo=labels feedback=bandit: algo=labels learns from labels",
        ),
        (["algo=glob(l*)", "feedback=bandit"], "algo=labels feedback=bandit: algo=labels learns from labels"),
        (["algo=q,qq"], "algo=qq: no such option; did you mean algo=q?"),
        (["algo.gamma=0,2"], "algo.gamma: expected a number in [0, 1), got 2"),
        (["algo.gamma=interval(0,2)"], "algo.gamma: expected a number in [0, 1), got 2"),
        (["run_dir=a", "seed=1,2"], "run_dir: 2 runs would write to one folder; leave it out, or set runs=FOLDER"),
    ],
)
def test_all_runs_of_a_sweep_are_checked_before_the_first(
    toy: Toy, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("train", "-m", *words) == 2
    assert capsys.readouterr().err.startswith(f"rlft: error: {text}")
    assert toy.calls == []


@pytest.mark.slow
def test_a_sweep_written_in_yaml_is_checked_too(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    path = toy.configs / "experiment" / "sweep.yaml"
    path.write_text("# @package _global_\n# Sweep.\nhydra:\n  sweeper:\n    params:\n      algo.gamma: 0.1,0.2\n")
    assert toy("train", "-m", "experiment=sweep") == 0
    assert [config.algo.gamma for config in toy.calls] == [0.1, 0.2]
    path.write_text(path.read_text().replace("0.2", "1.2"))
    assert toy("train", "-m", "experiment=sweep") == 2
    assert "algo.gamma: expected a number in [0, 1), got 1.2" in capsys.readouterr().err
    assert toy("train", "-m", "experiment=sweep", "algo.gamma=0.3") == 0
    assert [config.algo.gamma for config in toy.calls] == [0.1, 0.2, 0.3]


# -- showing -----------------------------------------------------------------------------------------------------


def test_cfg_job_shows_what_will_run(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("train", "--cfg", "job", "--resolve", "seed=${evaluation.bootstrap}") == 0
    out = capsys.readouterr().out
    assert "seed: 1000\n" in out
    assert "gamma: 0.25\n" in out
    assert toy.calls == []
    assert toy("eval", "--cfg", "job") == 0  # what must be given may be missing here
    assert "checkpoint: ???\n" in capsys.readouterr().out


def test_help_lists_choices_keys_and_own_options(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("train", "--help") == 0
    text = capsys.readouterr().out
    for part in ("* q  ", "Learns values.", "q_far", "optim.lr=0.0001", "at its peak", "mine", "--config-dir"):
        assert part in text
    assert not any(line.strip().startswith("algo.gamma=") for line in text.splitlines())
    assert toy("train", "algo=q", "--help") == 0
    text = capsys.readouterr().out
    assert "algo.gamma=0.5 " in text
    assert "How far it looks ahead; no unit, [0, 1)." in text


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_overview(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert "usage: rlft VERB" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("rlft 0.")


@pytest.mark.parametrize("verb", ["train", "eval", "predict", "data", "models", "verify"])
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert main(["help", verb]) == 0
    assert capsys.readouterr().out == text
    assert "console=auto" in text
    assert max(map(len, text.splitlines())) <= 110


# -- completion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tr"], ["train"]),
        (["train", "al"], ["algo.", "algo="]),
        (["train", "algo="], ["algo=gradient", "algo=labels", "algo=q", "algo=q_far"]),
        (["train", "algo=q,la"], ["algo=q,labels"]),
        (["train", "algo=gradient", "algo."], ["algo.samples="]),
        (["train", "optim.l"], ["optim.lr="]),
        (["train", "optim.schedule=c"], ["optim.schedule=constant", "optim.schedule=cosine"]),
        (["train", "algo.double="], ["algo.double=false", "algo.double=true"]),
        (["train", "--mu"], ["--multirun"]),
        (["train", "run_dir="], ["run_dir=null"]),
        (["predict", "checkpoint="], []),
        (["train", "--config-dir", ""], []),
        (["help", "ev"], ["eval"]),
        (["nothing", ""], []),
    ],
)
def test_completed_words(toy: Toy, words: list[str], found: list[str]) -> None:
    assert complete(Library([toy.configs]), words) == found


def path_with_rlft(folder: Path) -> str:
    """A PATH on which this checkout is the command rlft."""
    script = folder / "rlft"
    code = "import sys; from rlft_cli.cli import main; sys.exit(main())"
    script.write_text(f"#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -c '{code}' \"$@\"\n")
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_completion_works_in_fish(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    asked = "".join(f"complete -C '{line}'; " for line in ("rlft train algo=superv", "rlft eval checkpoint=ru"))
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"rlft completion fish | source; {asked}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path_with_rlft(tmp_path)},
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == (["algo=supervised", "checkpoint=runs/"], "")


@pytest.mark.slow
def test_completion_works_in_bash(tmp_path: Path) -> None:
    path = path_with_rlft(tmp_path)

    def press_tab(line: str) -> list[str]:
        # the function that <TAB> calls, in the state in which bash calls it; "=" is a word break of its own
        program = 'compopt() { :; }; eval "$(rlft completion bash)"; COMP_LINE="$1"; COMP_POINT=${#1}; _rlft; '
        done = subprocess.run(
            ["bash", "-c", program + 'printf "%s\\n" "${COMPREPLY[@]}"', "bash", line],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    assert press_tab("rlft train al") == ["algo.", "algo="]
    assert press_tab("rlft train algo=superv") == ["supervised"]
    assert press_tab("rlft train task=ner algo=dq") == ["dqn", "dqnimb"]
    assert press_tab("rlft train -m algo=dqn,rei") == ["dqn,reinforce"]
    assert press_tab("rlft ev") == ["eval"]
    assert press_tab("rlft eval checkpoint=") == []


# -- processes ---------------------------------------------------------------------------------------------------


def test_no_torch_before_the_check_is_done() -> None:
    code = (
        "import sys; from rlft_cli.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'peft'} & sys.modules.keys();"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    for words, status in [
        (["train", "algo=dqqn"], 2),
        (["train", "--help"], 0),
        (["train", "--cfg", "job", "--resolve"], 0),
        (["train", "passes=(", "seed=${foo}"], 2),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            check=False,
        )
        assert done.returncode == status, done.stderr


def test_refusal_through_a_process(tmp_path: Path) -> None:
    done = process("train", "algo=reinforce", "memory=replay", "algo.gama=1", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "memory=replay keeps old ones; type memory=latest" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys; from rlft_cli.cli import main; sys.exit(main())"
    command = f"PYTHONPATH={REPOSITORY} {sys.executable} -c '{code}' train --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "algo=dqqn"], ["train", "algo.gama=1"]])
def test_answers_in_half_a_second(words: list[str]) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        process(*words)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5
