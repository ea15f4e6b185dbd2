"""What the tests of the command line share: small data, one trained tiny run per task, and two ways to call rlft."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from hydra._internal.hydra import Hydra

from rlft_cli.cli import main

REPOSITORY = Path(__file__).parent.parent.parent
TINY = ("model=tiny", "hardware=cpu", "hardware.threads=1", "evaluation.bootstrap=10", "console=plain")
NAMES = ("Anna", "Bob", "Clara", "Dirk", "Eva", "Fritz")
PLACES = ("Paris", "Rome", "Berlin", "Oslo")


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command line that has ended."""

    status: int
    out: str
    err: str

    def refused(self, status: int, *parts: str) -> None:
        """It ended badly in the good way: one clear message on standard error, no traceback."""
        assert self.status == status, self
        assert self.err.startswith("rlft: error: "), self
        assert self.err.count("\n") == 1, "one message, one line"
        assert "Traceback" not in self.err + self.out
        assert "unexpected:" not in self.err, self
        for part in parts:
            assert part in self.err, (part, self.err)


Rlft = Callable[..., Done]


def rlft_here(*words: str, stdin: bytes = b"") -> Done:
    """Run a command line in this process, which saves the seconds that torch takes to import."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    try:
        # Hydra composes everything once more to learn hydra.mode, which no test here sets.
        without_mode = patch.object(Hydra, "get_mode", return_value=None)
        with without_mode, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(words))
    finally:
        sys.stdin = before
    return Done(status=status, out=out.getvalue(), err=err.getvalue())


def environment() -> dict[str, str]:
    """Environment of a child process that runs rlft from this checkout, without a network."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def rlft_process(*words: str, cwd: Path, stdin: bytes = b"") -> Done:
    """Run a command line as a user does: in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "rlft_cli", *words],
        input=stdin, capture_output=True, cwd=cwd, env=environment(), check=False,
    )  # fmt: skip
    return Done(status=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def conll(first: int, count: int) -> str:
    """Sentences with a person of one or two words and a place."""
    sentences = []
    for n in range(first, first + count):
        person = [f"{NAMES[n % 6]}\tB-PER"] + ["Smith\tI-PER"] * (n % 2)
        sentences.append([*person, "visited\tO", f"{PLACES[n % 4]}\tB-LOC", f"day{n}\tO", ".\tO"])
    return "\n\n".join("\n".join(lines) for lines in sentences) + "\n"


def write_ner(folder: Path) -> Path:
    """A folder of three CoNLL files: 24, 8 and 8 sentences."""
    folder.mkdir(parents=True)
    for split, first, count in (("train", 0, 24), ("dev", 24, 8), ("test", 32, 8)):
        (folder / f"{split}.conll").write_text(conll(first, count))
    return folder


def write_jsonl(folder: Path, rows: Callable[[int], dict[str, object]]) -> Path:
    """A folder of three JSONL files: 24, 8 and 8 rows."""
    folder.mkdir(parents=True)
    for split, first, count in (("train", 0, 24), ("dev", 24, 8), ("test", 32, 8)):
        lines = [json.dumps(rows(n)) for n in range(first, first + count)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def text_row(n: int) -> dict[str, object]:
    """A text about rain, sun or wind."""
    kind = ("rain", "sun", "wind")[n % 3]
    return {"text": f"there is {kind} in {PLACES[n % 4]} on day {n}", "label": kind}


def dialogue_row(n: int) -> dict[str, object]:
    """A question about a place and its answer."""
    asked, told = f"how is {PLACES[n % 4]} on day {n}", f"{PLACES[n % 4]} is fine"
    return {"turns": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}


TRAINED = {
    "ner": ("algo=supervised", "passes=2"),
    "classification": ("algo=supervised", "passes=1"),
    "dialogue": (
        "algo=supervised", "passes=1", "tuning=full", "task.max_prompt_tokens=64", "task.max_reply_tokens=8",
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data of each task and one finished run per task: ner, ner_run, ..."""
    folder = tmp_path_factory.mktemp("world")
    write_ner(folder / "ner")
    write_jsonl(folder / "classification", text_row)
    write_jsonl(folder / "dialogue", dialogue_row)
    for task, words in TRAINED.items():
        done = rlft_here(
            "train", f"task={task}", *TINY, *words, "data=files", f"data.dir={folder / task}",
            f"run_dir={folder / task}_run",
        )  # fmt: skip
        assert done.status == 0, done
        (folder / f"{task}_run.out").write_text(done.out)
    yield folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def rlft(here: Path) -> Rlft:
    """Run rlft in this process, in an empty folder."""
    return rlft_here


@pytest.fixture
def process() -> Rlft:
    """Run rlft in a process of its own."""
    return rlft_process


@pytest.fixture
def ner(world: Path, here: Path) -> Path:
    """A copy of the NER data in the working folder."""
    return Path(shutil.copytree(world / "ner", here / "ner"))


@pytest.fixture
def run(world: Path, here: Path) -> Path:
    """A copy of the finished NER run in the working folder."""
    return Path(shutil.copytree(world / "ner_run", here / "run"))


@pytest.fixture
def tree(here: Path) -> Callable[[], list[str]]:
    """Everything in the working folder."""
    return lambda: sorted(str(path.relative_to(here)) for path in here.rglob("*"))
