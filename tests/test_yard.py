"""The yard: what README, CONTRIBUTING and CHANGELOG say exists and works; pins, make targets, the wheel."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from rlft_cli.cli import main
from rlft_cli.help import VERBS

TOP = Path(__file__).parent.parent
DOCUMENTS = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs" / "decisions").glob("*.md"))]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PLACEHOLDER = re.compile(r"[A-Z]{2,}")  # NAME, TASK, RUN


def commands() -> list[tuple[str, int]]:
    """Command lines of rlft in README and CONTRIBUTING with their exit status: in `code`, and in blocks."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS[:2])
    shown = re.findall(r"^\$ (rlft .*)\n(rlft: error)?", text, re.MULTILINE)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    plain = re.findall(r"^    (rlft .*?)(?: {2,}#.*)?$", prose, re.MULTILINE) + re.findall(r"`(rlft [^`]+)`", prose)
    found = {command: 2 if error else 0 for command, error in shown}
    return list({**dict.fromkeys((" ".join(command.split()) for command in plain), 0), **found}.items())


def pins() -> dict[str, str]:
    lines = [line for line in (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


@pytest.mark.parametrize(("command", "status"), commands())
def test_commands_in_the_documents_do_what_they_say(
    command: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLFT_DATA", "data")
    program, verb, *words = shlex.split(command)
    assert program == "rlft"
    assert verb in VERBS
    elsewhere = "NAME" in command or "--config-dir" in words or "entity_or_not" in command  # to be made first
    if verb not in ("train", "eval", "predict", "data", "models") or elsewhere or "--help" in words:
        return
    words = [re.sub(r"=([^,=]+),\S+$", r"=\1", word) for word in words if word not in ("-m", "--resolve")]
    shown = words if "--cfg" in words else [*words, "--cfg", "job"]
    assert main([verb, *shown]) == status, capsys.readouterr().err


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_name_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`(?:python )?((?:rlft_cli|configs|tests|scripts|docs)/[^`\s]*)[^`]*`", text)
    real = [name for name in named if not PLACEHOLDER.search(name)]
    examples = ("entity_or_not", "top_two")  # of CONTRIBUTING; nothing of the project
    assert [name for name in real if not (TOP / name).exists() and Path(name).stem not in examples] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_targets_of_the_documents_exist() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*DOCUMENTS[:2], TOP / ".ci" / "run"])
    targets = sorted(set(re.findall(r"(?:^ *|`)make ([a-z-]+)", text, re.MULTILINE)))
    assert {"demo", "test", "check", "test-all"} <= set(targets)
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=TOP, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    command = ["make", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", "demo"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"rlft needs Python 3.11 or newer, and {old} is Python 3.9.1" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_continuous_integration_checks_and_tests() -> None:
    script = TOP / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("make check")]
    assert [line for line in lines if line.startswith("make test ")]


def test_every_dependency_is_pinned_without_the_tag_of_a_build() -> None:
    extras = PROJECT["optional-dependencies"].values()
    wanted = [*PROJECT["dependencies"], *(name for extra in extras for name in extra)]
    names = {re.split(r"[<>=\[ ;]", name)[0].lower() for name in wanted} - {"rlft"}
    assert sorted(names - pins().keys()) == []
    assert "torch" in pins()
    assert [version for version in pins().values() if not re.fullmatch(r"[0-9][0-9a-z.]*", version)] == []


def test_changelog_says_what_moves_results() -> None:
    text = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "### Changes that move results" in text


def test_readme_has_room_for_each_table_once_and_lists_nine_laws() -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8")
    for name in ("main", "speed"):
        assert text.count(f"<!-- table:{name} -->") == text.count(f"<!-- /table:{name} -->") == 1
    laws = text.partition("Laws that hold")[2].partition("**Goals.**")[0]
    assert re.findall(r"^(\d)\. .*`tests/\S+`$", laws, re.MULTILINE) == list("123456789")


def test_decisions_have_the_same_three_parts() -> None:
    for number, path in enumerate(DOCUMENTS[2:], start=1):
        assert path.name.startswith(f"{number:04d}-")
        assert re.findall(r"^\*\*(\w+)\.\*\*", path.read_text(encoding="utf-8"), re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequence",
        ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once, without a network: hatchling is in the extra "dev"."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(folder), str(TOP)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("rlft-*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_config_and_sample(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"rlft_cli/{path.relative_to(TOP)}" for path in (TOP / "configs").rglob("*.yaml")}
    package = [path for path in (TOP / "rlft_cli").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files = {str(path.relative_to(TOP)) for path in package}
    assert sorted((configs | files) - inside) == []
    assert [name for name in inside if name.endswith("licenses/LICENSE")]


@pytest.mark.slow
def test_the_wheel_runs_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-m", "rlft_cli", "data", "model=tiny", "console=json"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path / "installed")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"train", "dev", "test"} <= {json.loads(line).get("split") for line in done.stdout.splitlines()}


@pytest.mark.slow
def test_the_examples_of_contributing_work(tmp_path: Path) -> None:
    """A run of the tiny model with the reward and the exploration strategy as they are printed there."""
    text = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^`((?:rlft_cli|configs)/\S+)`:\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 4
    for name, content in found:
        path = Path(name)
        target = tmp_path / (path.name if path.suffix == ".py" else f"{path.parent.name}/{path.name}")
        target.parent.mkdir(exist_ok=True)
        target.write_text(re.sub(r"_target_: rlft_cli\.\w+\.", "_target_: ", content), encoding="utf-8")
    words = ["model=tiny", "reward=entity_or_not", "explore=top_two", "data.max_train=60", "data.max_dev=20"]
    words += ["data.max_test=20", "data.unseen_labels=drop", "passes=1", "warm_start.fraction=0", "run_dir=run"]
    words += ["memory=latest", "evaluation.bootstrap=20", "hardware=cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "rlft_cli", "train", "--config-dir", str(tmp_path), *words],
        cwd=tmp_path,
        env=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{TOP}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["reward"]["value"] > 0
