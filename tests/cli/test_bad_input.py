"""Bad input through the real command line: a clear message, status 2 or 1, no traceback, and nothing lost or half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from thinned import every_other

from rlft_cli.pipeline import setup

Tree = Callable[[], list[str]]
TRAIN = (
    "train", "task=ner", "algo=supervised", "passes=1", "model=tiny", "hardware=cpu", "hardware.threads=1",
    "evaluation.bootstrap=10", "console=plain",
)  # fmt: skip
NER = ("data=files", "data.dir=ner")


def cut(path: Path, part: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def names(folder: str) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def unfinished(run: Path) -> Path:
    """The run as it was before its last evaluation: it can be resumed."""
    (run / "result.json").unlink()
    return run


# -- data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "parts"),
    [
        ("train.conll", b"Rome\tLOC\nburns\tO\n", ("ner/train.conll:1: the tag 'LOC' of 'Rome' has no prefix",)),
        ("train.conll", b"Rome\tB-LOC\nin\tO\nOslo\tI-LOC\n", ("ner/train.conll:3: I-LOC of 'Oslo' (word 3) comes after O",)),
        ("dev.conll", b"", ("ner/dev.conll: holds no examples",)),
        ("test.conll", b"He\tO\nis\tO\n\nAcme\tB-ORG\n", ("ner/test.conll:4: the label 'ORG' is in test", "unseen_labels=drop")),
        ("train.conll", b"Rome\tB-LOC\nCaf\xe9\tO\n", ("ner/train.conll:2: is not UTF-8: byte 0xe9", "iconv")),
        ("train.conll", b"Rome\tB-LOC\nburns\n", ("ner/train.conll:2: has 1 column ('burns')", "the other lines have 2")),
        ("train.conll", b"Rome\nburns\n", ("ner/train.conll: the lines have one column",)),
    ],
    ids=["prefix", "i_after_o", "empty_split", "unseen_label", "utf8", "ragged", "one_column"],
)  # fmt: skip
def test_data_that_cannot_be_learned_from(
    rlft: Any, ner: Path, tree: Tree, file: str, content: bytes, parts: tuple[str, ...]
) -> None:
    (ner / file).write_bytes(content)
    before = tree()
    rlft(*TRAIN, *NER).refused(1, *parts)
    assert tree() == before, "no run folder is left by a run that never began"


@pytest.mark.parametrize(
    ("words", "parts"),
    every_other(
        [
            (("data.dir=nre",), ("nre: no such file or folder; did you mean", "/ner?")),
            (("data.dir=ner", "data.test=ner/tset.conll"), ("ner/tset.conll: no such file", "test.conll?")),
            (("data.dir=ner", "data.tag_column=5"), ("data.tag_column=5, but the lines have 2 columns",)),
            (("data.dir=ner/train.conll",), ("ner/train.conll: is a file, expected a folder",)),
        ]
    ),
)
def test_data_that_is_not_where_it_is_said_to_be(
    rlft: Any, ner: Path, tree: Tree, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    before = tree()
    rlft(*TRAIN, "data=files", *words, "run_dir=mine").refused(1, *parts)
    assert tree() == before, "run_dir is still free for the next try"
    rlft("data", "data=files", *words, "model=tiny", "console=plain").refused(1, *parts)


def test_a_wrong_column_names_the_right_one(rlft: Any, world: Path, here: Path) -> None:
    folder = Path(shutil.copytree(world / "classification", here / "texts"))
    (folder / "dev.jsonl").write_text('{"text": "a", "label": "rain"}\n{"txt": "b", "label": "rain"}\n')
    words = ("train", "task=classification", *TRAIN[2:], "data=files", "data.dir=texts")
    rlft(*words).refused(1, "texts/dev.jsonl:2: no column text; found: txt, label", "data.text_column=txt")
    rlft(*words, "data.label_column=lable").refused(
        1, "texts/train.jsonl:1: no column lable", "data.label_column=label"
    )


def test_an_empty_sentence_in_jsonl_is_named_and_blank_lines_in_conll_are_none(rlft: Any, ner: Path) -> None:
    (ner / "train.conll").unlink()
    rows = [{"words": ["Rome"], "tags": ["B-LOC"]}, {"words": [], "tags": []}]
    (ner / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rlft(*TRAIN, *NER).refused(1, "ner/train.jsonl:2: the sentence has no words", "data.repair=true")


def test_a_token_without_a_visible_character_is_kept_and_gets_one_tag(rlft: Any, ner: Path) -> None:
    odd = "\u200b\tO\nRome\tB-LOC\n\x7f\tO\n\n\n\n\n\u00ad\tO\n"
    with (ner / "train.conll").open("a") as file:
        file.write("\n" + odd)
    (ner / "test.conll").write_text(odd)
    done = rlft(*TRAIN, *NER, "run_dir=run")
    assert done.status == 0, done
    assert "test.conll: 3 tokens without a visible character kept (first: line 1, '\\u200b')" in done.out
    assert rlft("predict", "checkpoint=run", "input=ner/test.conll", "output=out.conll").status == 0
    told = [line.split("\t") for line in Path("out.conll").read_text().split("\n") if line]
    assert [word for word, _ in told] == ["\u200b", "Rome", "\x7f", "\u00ad"]
    assert json.loads(Path("run/result.json").read_text())["test"]["support"]["value"] == 1


@pytest.mark.slow
def test_a_sentence_of_5000_words_is_read_in_windows_and_gets_5000_tags(rlft: Any, world: Path, here: Path) -> None:
    words = [f"word{n % 50}" for n in range(5000)]
    tags = ["O"] * 4999 + ["B-LOC"]
    lines = "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
    Path("test.conll").write_text(lines + "\nRome\tB-LOC\n")
    done = rlft("eval", f"checkpoint={world / 'ner_run'}", "data=files", "data.test=test.conll", "console=json",
                "output=metrics.json", "evaluation.bootstrap=10")  # fmt: skip
    assert done.status == 0, done
    support = json.loads(Path("metrics.json").read_text())["test"]["support"]["value"]
    assert support == 2, "the entity beyond the longest input is still counted (P1)"
    assert rlft("predict", f"checkpoint={world / 'ner_run'}", "input=test.conll", "output=told.conll").status == 0
    told = Path("told.conll").read_text().split("\n\n")[0].split("\n")
    assert [line.split("\t")[0] for line in told] == words


# -- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "damage", "part"),
    every_other(
        [
            ("model.safetensors", cut, "model.safetensors is cut off: "),
            ("model.safetensors", Path.unlink, "model.safetensors is missing"),
            ("heads.safetensors", cut, "heads.safetensors is cut off: "),
            ("heads.safetensors", Path.unlink, "heads.safetensors is missing"),
            ("tokenizer.json", cut, "tokenizer.json is cut off: "),
            ("config.json", Path.unlink, "config.json is missing"),
            ("rlft.json", cut, "rlft.json or weights cannot be read: "),
            ("rlft.json", lambda path: path.write_text("[]"), "rlft.json or weights cannot be read: "),
        ]
    ),
)
def test_a_checkpoint_that_is_cut_off_is_never_used(
    rlft: Any, run: Path, file: str, damage: Callable[[Path], object], part: str
) -> None:
    damage(run / "checkpoint" / file)
    told = f"run/checkpoint is damaged or incomplete ({part}"
    rlft("eval", "checkpoint=run").refused(1, told, "train again, or give another checkpoint")
    rlft("predict", "checkpoint=run/checkpoint", "text=Anna visited Rome").refused(1, told)


def test_damaged_contents_of_the_right_size_are_refused_too(rlft: Any, run: Path) -> None:
    weights = run / "checkpoint" / "model.safetensors"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    rlft("eval", "checkpoint=run").refused(1, "run/checkpoint is damaged or incomplete (")


def test_a_checkpoint_that_is_not_there(rlft: Any, ner: Path) -> None:
    rlft("eval", "checkpoint=nowhere").refused(
        2, "checkpoint=nowhere does not exist (looked in ", "a run folder of rlft train"
    )
    rlft("predict", "checkpoint=ner", "text=a").refused(2, "checkpoint=ner has no checkpoint in it; give a run folder")
    rlft(*TRAIN, *NER, "init=nowhere").refused(2, "init=nowhere does not exist")
    Path("begun").mkdir()
    Path("begun/config.yaml").write_text("seed: 1\n")
    rlft("eval", "checkpoint=begun").refused(
        2, "the run stopped before its first evaluation", "rlft train resume=begun"
    )


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("init=WORLD/classification_run",), ("was trained with task=classification, this run has task=ner",)),
        (("init=WORLD/ner_run", "model=lstm"), ("was trained with model=tiny, this run has model=lstm",)),
        (("init=WORLD/ner_run", "model.width=64"), ("to start from it, type model.width=32",)),
        (
            ("init=WORLD/ner_run", "data.train=org.conll"),
            ("does not know the labels B-ORG, I-ORG", "it knows O, B-LOC"),
        ),
    ],
)
def test_init_from_a_checkpoint_of_something_else(
    rlft: Any, world: Path, ner: Path, tree: Tree, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    Path("org.conll").write_text((ner / "train.conll").read_text() + "\nAcme\tB-ORG\n")
    before = tree()
    rlft(*TRAIN, *NER, *[word.replace("WORLD", str(world)) for word in words]).refused(2, *parts)
    assert tree() == before


def test_init_from_a_damaged_checkpoint_is_no_fresh_start(rlft: Any, ner: Path, run: Path) -> None:
    cut(run / "checkpoint" / "model.safetensors")
    rlft(*TRAIN, *NER, "init=run").refused(1, "run/checkpoint is damaged or incomplete")


def test_init_goes_on_with_another_algorithm(rlft: Any, ner: Path, run: Path) -> None:
    words = [word for word in TRAIN if word != "algo=supervised"]
    done = rlft(*words, "algo=dqn", "warm_start.fraction=0", *NER, "init=run", "run_dir=more")
    assert done.status == 0, done
    assert json.loads(Path("more/result.json").read_text())["algorithm"] == "dqn"


# -- models --------------------------------------------------------------------------------------------------------


def test_a_model_whose_weights_are_nowhere(rlft: Any, ner: Path, tree: Tree) -> None:
    words = [word for word in TRAIN if word != "model=tiny"]
    before = tree()
    done = rlft(*words, *NER, "model=minilm", "model.sources=[dir:/nowhere,hub:nobody/nothing]")
    done.refused(
        1, "no weights: dir /nowhere: no such folder; hub nobody/nothing: ", "model.sources=[dir:/path/to/folder]"
    )
    assert tree() == before
    rlft(*words, *NER, "model=minilm", "model.sources=[/nowhere]").refused(
        2, "cannot read '/nowhere'", "[dir:/nowhere]"
    )
    rlft(*words, *NER, "model=minlm").refused(2, "model=minlm: no such option; did you mean model=minilm?")


# -- run folders ---------------------------------------------------------------------------------------------------


def test_a_run_folder_that_exists_is_never_overwritten(rlft: Any, ner: Path, run: Path, tree: Tree) -> None:
    before = tree(), (run / "result.json").stat().st_mtime_ns
    rlft(*TRAIN, *NER, "run_dir=run").refused(
        2, "run_dir=run exists and is not empty", "go on with that run by resume=run"
    )
    rlft(*TRAIN, *NER, "run_dir=ner").refused(2, "run_dir=ner exists and is not empty")
    rlft(*TRAIN, *NER, "run_dir=ner/test.conll").refused(2, "run_dir=ner/test.conll is a file")
    assert (tree(), (run / "result.json").stat().st_mtime_ns) == before


def test_a_place_that_cannot_be_written(rlft: Any, ner: Path) -> None:
    rlft(*TRAIN, *NER, "runs=ner/train.conll").refused(
        1, "cannot write ner/train.conll/ner/supervised/", "Not a directory"
    )


def test_several_processes_do_not_write_one_run(rlft: Any, ner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun and accelerate launch set it
    rlft(*TRAIN, *NER, "run_dir=run2").refused(2, "rlft train was started as 2 processes", "without a launcher")
    assert not Path("run2").exists()


def test_resume_of_what_cannot_go_on(rlft: Any, ner: Path, run: Path) -> None:
    rlft("train", "resume=run").refused(2, "resume=run has ended; evaluate it with: rlft eval checkpoint=run")
    rlft("train", "resume=nowhere").refused(2, "resume=nowhere is not a run folder")
    rlft("train", "resume=ner").refused(2, "resume=ner is not a run folder")


@pytest.mark.parametrize(
    ("word", "told"),
    [("passes=9", "passes=2"), ("algo=dqn", "algo=supervised"), ("optim.lr=0.5", "optim.lr=0.0001")],
)
def test_resume_with_another_configuration_is_not_silent(rlft: Any, run: Path, word: str, told: str) -> None:
    rlft("train", f"resume={unfinished(run)}", word).refused(2, "goes on as it was configured, with ", told)


def test_resume_with_the_same_words_goes_on(rlft: Any, world: Path, run: Path) -> None:
    done = rlft(
        "train", f"resume={unfinished(run)}", "algo=supervised", "passes=2", f"data.dir={world / 'ner'}", "data=files"
    )
    assert done.status == 0, done


@pytest.mark.parametrize(
    ("file", "damage", "parts"),
    every_other(
        [
            ("state/tensors.safetensors", cut, ("run/state is damaged or incomplete", "cannot be resumed from")),
            ("state/state.json", cut, ("run/state is damaged or incomplete", "cannot be resumed from")),
            ("config.yaml", cut, ("run/config.yaml is damaged", "cannot be resumed from")),
            (
                "config.yaml",
                lambda path: path.write_text("{"),
                ("run/config.yaml is damaged", "cannot be resumed from"),
            ),
            ("checkpoint", shutil.rmtree, ("run/checkpoint is damaged or incomplete",)),
            ("checkpoint/heads.safetensors", cut, ("run/checkpoint is damaged or incomplete",)),
        ]
    ),
)
def test_resume_of_a_damaged_run_is_no_fresh_start(
    rlft: Any, run: Path, file: str, damage: Callable[[Path], object], parts: tuple[str, ...]
) -> None:
    damage(unfinished(run) / file)
    rlft("train", "resume=run").refused(1, *parts)
    assert not (run / "result.json").exists()


def test_a_state_of_another_version_is_named_as_such(rlft: Any, run: Path) -> None:
    file = unfinished(run) / "state" / "state.json"
    state = json.loads(file.read_text())
    state["__dict__"] = [pair for pair in state["__dict__"] if pair[0] != "window"]
    file.write_text(json.dumps(state))
    rlft("train", "resume=run").refused(
        1, "run/state was written by another version of rlft (it has no window)", "init=run"
    )


def test_a_log_line_that_a_kill_cut_off_does_no_harm(rlft: Any, run: Path) -> None:
    log = unfinished(run) / "metrics.jsonl"
    whole = log.read_text()
    with log.open("a") as file:
        file.write('{"phase": "main", "st')
    assert rlft("train", "resume=run").status == 0
    assert log.read_text() == whole


# -- the disk ------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_leaves_the_earlier_checkpoint_whole(
    rlft: Any, ner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write = setup.write_card

    def fill_up(folder: Path, card: Any) -> None:
        written.append(folder)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(folder, card)

    monkeypatch.setattr(setup, "write_card", fill_up)
    done = rlft(*TRAIN, *NER, "run_dir=run", "selection.by=last", "passes=3")
    done.refused(1, "cannot write run/checkpoint: the disk is full", "what was written before is whole")
    assert names("run") == ["checkpoint", "config.yaml", "metrics.jsonl", "state"]
    assert rlft("eval", "checkpoint=run").status == 0
    monkeypatch.setattr(setup, "write_card", write)
    assert rlft("train", "resume=run").status == 0, "with room on the disk the run goes on"


@pytest.fixture
def small_disk(here: Path) -> Iterator[Path]:
    """A file system of 300 kB; skips where it cannot be mounted."""
    folder = here / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(rlft: Any, world: Path, ner: Path, small_disk: Path) -> None:
    done = rlft(*TRAIN, *NER, "run_dir=disk/run")  # the checkpoint fits, the resume state does not
    done.refused(1, "cannot write disk/run/state: the disk is full", "Free some space")
    assert names("disk/run") == ["checkpoint", "config.yaml", "metrics.jsonl"]
    assert rlft("eval", "checkpoint=disk/run").status == 0
    Path("many.txt").write_text("Anna visited Rome on a day\n" * 2000)
    done = rlft("predict", f"checkpoint={world / 'ner_run'}", "input=many.txt", "output=disk/out.jsonl")
    done.refused(1, "cannot write disk/out.jsonl: the disk is full")
    assert names("disk") == ["run"], "no half of a file"


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("algo=supervised",), "in evaluation"),
        (("algo=dqn", "warm_start.fraction=0", "selection.every_passes=5"), "at step 2"),
    ],
)
def test_numbers_that_overflow_stop_the_run_and_keep_the_batch(
    rlft: Any, ner: Path, words: tuple[str, ...], where: str
) -> None:
    given = [word for word in TRAIN if not word.startswith(("algo=", "passes="))]
    done = rlft(*given, *words, *NER, "passes=5", "optim.lr=1e30", "hardware.precision=fp32", "run_dir=run")
    done.refused(1, f"scores are not numbers {where}", "a lower optim.lr", "the batch is kept in run/nonfinite_batch")
    assert names("run/nonfinite_batch") == ["state.json", "tensors.safetensors"]
    assert not Path("run/result.json").exists()


# -- eval ----------------------------------------------------------------------------------------------------------


def test_eval_refuses_labels_that_the_checkpoint_does_not_know(rlft: Any, run: Path) -> None:
    Path("test.conll").write_text("Rome\tB-LOC\n\nit\tO\nis\tO\n\nAcme\tB-ORG\n")
    words = ("eval", "checkpoint=run", "data=files", "data.test=test.conll", "console=plain", "evaluation.bootstrap=10")
    rlft(*words).refused(1, "test.conll:6: the label B-ORG is not among those of the checkpoint (O, B-LOC, ", "=drop")
    done = rlft(*words, "data.unseen_labels=drop")
    assert done.status == 0, done
    assert "1 of 3 examples left out" in done.out
    assert "2 examples in" in done.out


def test_eval_without_the_data_of_the_run_says_what_to_give(rlft: Any, world: Path, run: Path) -> None:
    card = json.loads((run / "checkpoint" / "rlft.json").read_text())
    card["config"]["data"]["dir"] = "gone"
    (run / "checkpoint" / "rlft.json").write_text(json.dumps(card))
    rlft("eval", "checkpoint=run").refused(
        1, "the data that the checkpoint was trained with cannot be read from here: gone: ", "data=files data.test=FILE"
    )
    rlft("eval", "checkpoint=run", "data=files").refused(2, "split=test needs its file or a folder: data.test=FILE")
    Path("empty").mkdir()
    rlft("eval", "checkpoint=run", "data=files", "data.dir=empty").refused(1, "empty: no test file")
    texts = world / "classification"
    rlft("eval", "checkpoint=run", "data=files", f"data.dir={texts}").refused(
        1, "test.jsonl:1: no column words", "fit task=classification"
    )


def test_nothing_of_the_task_can_be_said_again(rlft: Any, run: Path) -> None:
    """P18: template, labels, lengths and tokenizer come from the checkpoint alone."""
    for verb in ("eval", "predict"):
        for word in (
            "task=ner",
            "model=tiny",
            "task.max_window_tokens=9",
            "labels=[O]",
            "model.max_tokens=9",
            "algo=dqn",
        ):
            rlft(verb, "checkpoint=run", "text=a" if verb == "predict" else "split=dev", word).refused(2, "no such key")


def test_output_is_never_overwritten_and_its_folder_is_looked_for_first(rlft: Any, run: Path) -> None:
    Path("mine").write_text("mine")
    for words in (("eval",), ("predict", "text=Anna")):
        rlft(*words, "checkpoint=run", "output=mine").refused(2, "output=mine exists and is not overwritten")
        rlft(*words, "checkpoint=run", "output=no/file").refused(2, "output=no/file: there is no folder no")
    assert Path("mine").read_text() == "mine"


# -- predict -------------------------------------------------------------------------------------------------------


def test_one_question_and_not_an_empty_one(rlft: Any, run: Path) -> None:
    rlft("predict", "checkpoint=run", "text=a", "input=b").refused(2, "text= and input= are both given")
    rlft("predict", "checkpoint=run", "text= ").refused(2, "text= is empty")
    rlft("predict", "checkpoint=run", "text=Caf\udce9").refused(2, "text= is not UTF-8")
    rlft("predict", "checkpoint=run", "input=gone.txt").refused(1, "gone.txt: cannot be read (No such file")
    done = rlft("predict", "checkpoint=run", stdin=b"Anna\nCaf\xe9\n")
    done.refused(1, "standard input:2: is not UTF-8", "iconv")


@pytest.mark.parametrize(
    ("file", "content", "part"),
    every_other(
        [
            ("q.jsonl", '{"text": "ok"}\n{"text": broken}\n', "q.jsonl:2: is not JSON: Expecting value at column 10"),
            ("q.jsonl", "[1]\n", "q.jsonl:1: expected an object"),
            ("q.jsonl", '{"text": 3}\n', "q.jsonl:1: text is 3, expected a text"),
            (
                "q.jsonl",
                '{"txet": "a"}\n',
                "q.jsonl:1: expected the key words or tokens or text (task=ner), found txet",
            ),
            ("q.jsonl", '{"words": "Anna"}\n', "q.jsonl:1: words is 'Anna', expected a list"),
            ("q.jsonl", '{"words": ["a", 3]}\n', "q.jsonl:1: words is ['a', 3], expected a list of texts"),
            ("q.jsonl", '\n{"words": ["a", ""]}\n', "q.jsonl:2: word 2 is empty"),
            ("q.jsonl", '{"words": []}\n', "q.jsonl:1: the sentence has no words"),
            ("q.jsonl", '{"text": " "}\n', "q.jsonl:1: the text is empty"),
            ("q.jsonl", '{"text": "\\ud800"}\n', "q.jsonl:1: holds '\\ud800', half of a surrogate pair"),
            ("q.csv", "text\nAnna\n", "q.csv: answers are given to JSONL, CoNLL or plain text"),
            ("q.conll", "Anna\tB-PER\n\n\tO\n", "q.conll:3: the token is empty"),
        ]
    ),
)
def test_questions_that_cannot_be_read(rlft: Any, run: Path, tree: Tree, file: str, content: str, part: str) -> None:
    Path(file).write_text(content)
    before = tree()
    rlft("predict", "checkpoint=run", f"input={file}", "output=out.jsonl").refused(1, part)
    assert tree() == before


@pytest.mark.parametrize(
    ("task", "line", "part"),
    [
        ("classification", '{"text": " "}', "q.jsonl:1: the text is empty"),
        ("classification", '{"words": ["a"]}', "q.jsonl:1: expected the key text (task=classification), found words"),
        ("dialogue", '{"turns": "hi"}', "q.jsonl:1: turns is 'hi', expected a list"),
        ("dialogue", '{"turns": []}', "q.jsonl:1: the dialogue has no turns"),
        ("dialogue", '{"turns": [{"role": "user"}]}', "q.jsonl:1: turn 1 has role; expected role and content"),
        ("dialogue", '{"turns": [{"role": "usr", "content": "a"}]}', "turn 1 has the role 'usr'; expected user or"),
        (
            "dialogue",
            '{"turns": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
            "q.jsonl:1: the last turn is of the assistant, so there is nothing to answer",
        ),
    ],
)
def test_questions_of_other_tasks(rlft: Any, world: Path, here: Path, task: str, line: str, part: str) -> None:
    Path("q.jsonl").write_text(line + "\n")
    rlft("predict", f"checkpoint={world / task}_run", "input=q.jsonl").refused(1, part)


def test_conll_is_for_checkpoints_of_word_tasks(rlft: Any, world: Path, ner: Path) -> None:
    done = rlft("predict", f"checkpoint={world / 'classification_run'}", "input=ner/test.conll")
    done.refused(1, "ner/test.conll: is CoNLL", "this checkpoint is of task=classification", "format=text")


# -- through a process ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_through_a_process(process: Any, run: Path, here: Path, tree: Tree) -> None:
    (run / "checkpoint" / "heads.safetensors").unlink()
    before = tree()
    done = process("predict", "checkpoint=run", "text=Anna visited Rome", cwd=here)
    done.refused(1, "run/checkpoint is damaged or incomplete (heads.safetensors is missing)")
    assert done.out == ""
    assert tree() == before
