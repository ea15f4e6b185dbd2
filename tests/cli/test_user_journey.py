"""What a user does from the first command to the last, with a tiny model: look, train, sweep, stop, go on, measure, ask."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from thinned import every_other

from rlft_cli import artifact, durable
from rlft_cli.commands.train_log import against_collapse

TRAIN = ("train", "task=ner", "model=tiny", "hardware=cpu", "hardware.threads=1", "evaluation.bootstrap=10")
NER = ("data=files", "data.dir=ner")


def rows(text: str) -> list[dict[str, Any]]:
    """Every line of the output as the JSON object that it is."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(row, dict) for row in found)
    return found


def result(folder: Path | str) -> dict[str, Any]:
    return dict(json.loads((Path(folder) / "result.json").read_text()))


# -- before training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["ner", "classification", "dialogue"])
def test_data_is_looked_at_first(rlft: Any, world: Path, here: Path, task: str) -> None:
    limits = ["task.max_prompt_tokens=64", "task.max_reply_tokens=8"] if task == "dialogue" else []
    words = ("data", f"task={task}", "model=tiny", "data=files", f"data.dir={world / task}", *limits)
    plain = rlft(*words, "console=plain")
    assert (plain.status, plain.err) == (0, "")
    assert "Sizes, and lengths in words" in plain.out
    assert "Overlap" in plain.out
    tables = {row["table"] for row in rows(rlft(*words, "console=json").out) if "table" in row}
    assert any(title.startswith("Lengths in model tokens") for title in tables)


@pytest.mark.parametrize("task", ["ner", "classification", "dialogue"])
def test_the_packaged_sample_needs_no_file(rlft: Any, task: str) -> None:
    limits = ["task.max_prompt_tokens=64"] if task == "dialogue" else []
    done = rlft("data", f"task={task}", "model=tiny", *limits, "console=plain")
    assert (done.status, done.err) == (0, "")
    assert "dev in train" in done.out


def test_models_are_listed_without_a_network(rlft: Any, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("RLFT_CACHE", str(here / "cache"))
    found = {row["model"]: row for row in rows(rlft("models", "console=json").out) if "model" in row}
    assert {"minilm", "smollm2", "bert_base", "lstm", "tiny"} <= found.keys()
    assert found["minilm"]["weights"].startswith("not here; from the wheel ")
    assert found["tiny"]["weights"] == "none needed: random start"


def test_what_will_run_is_shown_and_nothing_is_run(rlft: Any, here: Path) -> None:
    done = rlft("train", "algo=reinforce", "task=classification", "seed=7", "--cfg", "job", "--resolve")
    assert (done.status, done.err) == (0, "")
    config = yaml.safe_load(done.out)
    assert config["algo"]["_target_"] == "rlft_cli.algo.reinforce.Reinforce"
    assert config["explore"]["_target_"] == "rlft_cli.explore.sample.Sample", "what the algorithm brings with it"
    assert (config["seed"], "${" in done.out) == (7, False)
    assert list(here.iterdir()) == []


# -- training ------------------------------------------------------------------------------------------------------


def test_the_last_lines_name_the_run_folder_and_the_command_that_measures_it(
    rlft: Any, world: Path, here: Path
) -> None:
    told = (world / "ner_run.out").read_text()
    folder = world / "ner_run"
    assert told.splitlines()[-2:] == [f"run folder: {folder}", f"evaluate it: rlft eval checkpoint={folder} split=test"]
    assert "\x1b" not in told, "plain lines hold no control characters"
    done = rlft(*told.splitlines()[-1].removeprefix("evaluate it: rlft ").split(), "evaluation.bootstrap=10")
    assert (done.status, done.err) == (0, "")
    there = {path.name for path in folder.iterdir()}
    assert there == {"checkpoint", "config.yaml", "metrics.jsonl", "result.json", "state", "test_predictions.jsonl"}


def test_a_run_folder_with_a_blank_is_named_as_it_is_typed(rlft: Any, ner: Path) -> None:
    done = rlft(*TRAIN, "algo=supervised", "passes=1", *NER, "run_dir=my run")
    assert done.status == 0, done
    assert done.out.splitlines()[-1] == "evaluate it: rlft eval 'checkpoint=my run' split=test"


def test_eval_of_the_checkpoint_gives_the_numbers_of_the_run(rlft: Any, world: Path, here: Path) -> None:
    for task in ("ner", "classification", "dialogue"):
        done = rlft("eval", f"checkpoint={world / task}_run", "output=eval.json", "evaluation.bootstrap=10")
        assert done.status == 0, done
        found = json.loads(Path("eval.json").read_text())["test"]
        assert found == result(world / f"{task}_run")["test"]
        Path("eval.json").unlink()


def test_one_object_a_line_in_json(rlft: Any, ner: Path) -> None:
    done = rlft(*TRAIN, "algo=supervised", "passes=2", *NER, "run_dir=run", "console=json")
    assert (done.status, done.err) == (0, "")
    found = rows(done.out)
    assert [row["passes"] for row in found if "dev f1" in row] == [1.0, 2.0]
    assert found[-2]["run_dir"] == "run"
    assert found[-1]["command"] == "rlft eval checkpoint=run split=test"
    done = rlft("eval", "checkpoint=run", "split=dev", "console=json", "evaluation.bootstrap=10")
    found = rows(done.out)
    f1 = next(row for row in found if row.get("metric") == "f1")
    assert f1["value"] == result("run")["dev"]["f1"]["value"]
    assert found[-1]["examples"] == 8


@pytest.mark.parametrize("rule", every_other(["last", "dev_metric"]))
def test_the_checkpoint_is_the_one_that_the_rule_selects(rlft: Any, ner: Path, rule: str) -> None:
    """P16: higher is better for every metric that selects, and the rule is stated in the result."""
    done = rlft(*TRAIN, "algo=supervised", "passes=6", "optim.lr=5e-3", *NER, "run_dir=run", f"selection.by={rule}")
    assert done.status == 0, done
    looks = [row for row in rows(Path("run/metrics.jsonl").read_text()) if "dev.f1" in row]
    best = max(looks, key=lambda row: float(row["dev.f1"])) if rule == "dev_metric" else looks[-1]
    found = result("run")
    assert len(looks) == 6
    assert found["dev"]["f1"]["value"] == best["dev.f1"]
    assert found["selection"] == {
        "rule": rule, "metric": "f1", "passes": best["passes"], "labels_of_dev_used": rule == "dev_metric",
    }  # fmt: skip


@pytest.mark.parametrize("fraction", every_other([0.5, 0.0]))
def test_without_passes_a_run_is_what_the_others_start_from(rlft: Any, ner: Path, fraction: float) -> None:
    words = ("algo=dqn", f"warm_start.fraction={fraction}", "warm_start.passes=2", *NER)
    assert rlft(*TRAIN, *words, "passes=0", "run_dir=start").status == 0
    assert rlft(*TRAIN, *words, "passes=1", "optim.lr=0", "optim.head_lr=0", "run_dir=still").status == 0
    start, still = result("start"), result("still")
    assert (start["used"]["reactions"], start["used"]["label_examples"] > 0) == (0, fraction > 0)
    assert (start["seconds"]["train"] > 0) == (fraction > 0)  # the evaluation is no training
    assert start["test"] == still["test"]


def test_a_selection_rule_that_does_not_exist(rlft: Any, ner: Path) -> None:
    done = rlft(*TRAIN, *NER, "selection.by=dev_metrics")
    done.refused(2, "selection.by: expected one of dev_metric, dev_reward, last, got 'dev_metrics'", "did you mean")


@pytest.mark.slow
def test_a_sweep_makes_a_run_for_every_combination(rlft: Any, ner: Path) -> None:
    done = rlft(
        *TRAIN, "-m", "algo=supervised,dqn", "seed=1,2", *NER, "passes=0.5", "recipe=null", "memory.warmup_episodes=8"
    )
    done.refused(2, "memory.warmup_episodes: no such key of memory=latest")
    done = rlft(*TRAIN, "-m", "algo=supervised,dqn", "seed=1,2", *NER, "passes=0.5")
    assert (done.status, done.err) == (0, "")
    found = [result(path.parent) for path in Path("runs").rglob("result.json")]
    assert sorted((one["algorithm"], one["seed"]) for one in found) == [
        ("dqn", 1), ("dqn", 2), ("supervised", 1), ("supervised", 2),
    ]  # fmt: skip
    assert sorted(str(path) for path in Path("runs").glob("*/*")) == ["runs/ner/dqn", "runs/ner/supervised"]


def test_a_sweep_goes_on_after_a_run_that_fails_and_says_so(rlft: Any, ner: Path) -> None:
    words = (*TRAIN, "algo=supervised", "passes=0.5", "data=files", "hardware.precision=fp32")
    done = rlft(*words, "-m", "data.dir=nowhere,ner")
    assert done.status == 1
    assert done.err.splitlines()[0].startswith("rlft: error: nowhere: no such file or folder")
    assert done.err.splitlines()[1:] == ["rlft: error: 1 of 2 runs failed; the others are whole"]
    assert len(list(Path("runs").rglob("result.json"))) == 1


@pytest.mark.slow
def test_runs_of_one_sweep_may_differ_in_precision(rlft: Any, ner: Path) -> None:
    done = rlft(*TRAIN, "algo=supervised", "passes=0.5", *NER, "-m", "hardware.precision=bf16,fp32")
    assert (done.status, done.err) == (0, "")
    cards = [json.loads(path.read_text()) for path in Path("runs").rglob("rlft.json")]
    assert sorted(card["precision"] for card in cards) == ["bf16", "fp32"]


def test_advice_against_a_collapse_names_keys_of_this_run(rlft: Any, ner: Path) -> None:
    (ner / "dev.conll").write_text("it\tO\nis\tO\n\nRome\tB-LOC\n")
    words = (*TRAIN, *NER, "passes=0.1", "optim.lr=0", "optim.head_lr=0")
    for algo, key in (("dqn", "lower optim.lr"), ("reinforce", "raise algo.entropy_coefficient")):
        told = against_collapse(config_of(rlft, *words, f"algo={algo}"))
        assert key in told
        assert ("entropy_coefficient" in told) == (algo == "reinforce")
    assert "optim.head_lr" in against_collapse(config_of(rlft, *words, "algo=supervised"))


def config_of(rlft: Any, *words: str) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create(yaml.safe_load(rlft(*words, "--cfg", "job", "--resolve").out))


# -- stopping and going on -----------------------------------------------------------------------------------------


def test_ctrl_c_saves_and_says_how_to_go_on(rlft: Any, ner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, lines = durable.append_line, []

    def press_ctrl_c(path: Path, content: Any) -> None:
        append(path, content)
        lines.append(content)
        if len(lines) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(durable, "append_line", press_ctrl_c)
    before = signal.getsignal(signal.SIGINT)  # a job in the background starts with Ctrl-C ignored
    words = (*TRAIN, "algo=supervised", *NER, "passes=4", "run_dir=run", "console=plain")
    done = rlft(*words)
    assert done.status == 130
    assert done.err == "rlft: error: stopped by Ctrl-C; all is saved; go on with: rlft train resume=run\n"
    assert "stopping after this step; press Ctrl-C again to stop at once" in done.out
    assert signal.getsignal(signal.SIGINT) is before
    assert not Path("run/result.json").exists()
    monkeypatch.setattr(durable, "append_line", append)
    done = rlft("train", "resume=run", "console=plain")
    assert done.status == 0, done
    assert done.out.splitlines()[0] == "going on with run"
    looks = [row["passes"] for row in rows(Path("run/metrics.jsonl").read_text()) if "dev.f1" in row]
    assert looks == [1.0, 2.0, 3.0, 4.0], "each evaluation once"
    rlft("train", "resume=run").refused(2, "resume=run has ended")
    assert rlft(*[word.replace("run_dir=run", "run_dir=never_stopped") for word in words]).status == 0
    assert result("run")["test"] == result("never_stopped")["test"]


@pytest.mark.slow
def test_ctrl_c_in_a_process(process: Any, ner: Path, here: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(artifact.__file__).parent.parent)}
    words = [*TRAIN, "algo=supervised", *NER, "passes=100000", "run_dir=run", "console=plain"]
    with subprocess.Popen(
        [sys.executable, "-m", "rlft_cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, cwd=here,
    ) as child:  # fmt: skip
        until = time.monotonic() + 300
        while not Path("run/state").exists() and time.monotonic() < until:
            time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=300)
    assert child.returncode == 130, (out, err)
    assert err == "rlft: error: stopped by Ctrl-C; all is saved; go on with: rlft train resume=run\n"
    assert process("eval", "checkpoint=run", cwd=here).status == 0


# -- asking --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_eval_and_predict_need_nothing_but_the_checkpoint(process: Any, rlft: Any, ner: Path, here: Path) -> None:
    """Law 4 through the command line: another folder, another process, the training data removed."""
    assert rlft(*TRAIN, "algo=supervised", "passes=2", *NER, "run_dir=run").status == 0
    (here / "else").mkdir()
    shutil.move(str(ner / "test.conll"), here / "else" / "some.conll")
    shutil.rmtree(ner)
    shutil.move("run/checkpoint", "else/model")
    shutil.rmtree("run")
    asked = b"Anna Smith visited Paris\nBob visited Rome .\n"
    there = process("predict", "checkpoint=model", cwd=here / "else", stdin=asked)
    assert (there.status, there.err) == (0, "")
    assert there.out == rlft("predict", "checkpoint=else/model", stdin=asked).out
    done = rlft("eval", "checkpoint=else/model", "data=files", "data.test=else/some.conll", "evaluation.bootstrap=10")
    assert (done.status, done.err) == (0, "")
    assert "8 examples in" in done.out
    shutil.move("else/some.conll", "else/dev.conll")
    done = rlft("eval", "checkpoint=else/model", "data=files", "data.dir=else", "split=dev", "evaluation.bootstrap=10")
    assert (done.status, done.err) == (0, "")


def test_every_form_of_question_gets_the_same_answer(rlft: Any, world: Path, here: Path) -> None:
    checkpoint = f"checkpoint={world / 'ner_run'}"
    words = ["Anna", "visited", "Paris", "."]
    (first,) = rows(rlft("predict", checkpoint, "text=Anna visited Paris.").out)
    assert first["words"] == words
    assert len(first["tags"]) == 4
    Path("q.jsonl").write_text(json.dumps({"words": words}) + "\n" + json.dumps({"text": "Anna visited Paris."}) + "\n")
    assert rows(rlft("predict", checkpoint, "input=q.jsonl").out) == [first, first]
    assert rows(rlft("predict", checkpoint, stdin=b"Anna visited Paris.\r\n\r\n").out) == [first]
    assert rows(rlft("predict", checkpoint, stdin=Path("q.jsonl").read_bytes()).out) == [first, first]
    told = "".join(f"{word}\t{tag}\n" for word, tag in zip(words, first["tags"], strict=True))
    for name, content in {
        "one_column.conll": "\n".join(words) + "\n",
        "tagged.conll": "# id = 1\n" + "".join(f"{word}\tO\n" for word in words),
        "tagged.txt": "-DOCSTART- -X- O\n\n" + "".join(f"{word} NN O\n" for word in words),
    }.items():
        Path(name).write_text(content)
        done = rlft("predict", checkpoint, f"input={name}", "output=out.conll", "console=json")
        assert rows(done.out) == [
            {"message": "1 predictions written to out.conll", "predictions": 1, "output": "out.conll"}
        ]
        assert Path("out.conll").read_text() == told + "\n", name
        Path("out.conll").unlink()


def test_texts_and_dialogues_are_answered(rlft: Any, world: Path, here: Path) -> None:
    done = rlft(
        "predict", f"checkpoint={world / 'classification_run'}", stdin="there is rain\nmucho sol – 東京\n".encode()
    )
    assert [row["text"] for row in rows(done.out)] == ["there is rain", "mucho sol – 東京"]
    assert all(row["label"] in ("rain", "sun", "wind") for row in rows(done.out))
    turns = [{"role": "user", "content": "how is Rome on day 3"}]
    Path("q.json").write_text(json.dumps([{"turns": turns}]))
    checkpoint = f"checkpoint={world / 'dialogue_run'}"
    (first,) = rows(rlft("predict", checkpoint, "input=q.json").out)
    assert first["turns"] == turns
    assert rows(rlft("predict", checkpoint, "text=how is Rome on day 3").out) == [first]


def test_no_question_no_answer(rlft: Any, run: Path) -> None:
    done = rlft("predict", "checkpoint=run", stdin=b"")
    assert (done.status, done.out, done.err) == (0, "", "")


@pytest.mark.slow
def test_a_reader_that_closes_the_pipe_is_no_fault(run: Path, here: Path) -> None:
    Path("many.txt").write_text("Anna visited Paris\n" * 2000)
    command = f"{sys.executable} -m rlft_cli predict checkpoint=run input=many.txt | head -n 1; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(Path(artifact.__file__).parent.parent)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (141, "")
    assert len(done.stdout.splitlines()) == 1


# -- one's own parts -----------------------------------------------------------------------------------------------

ALGORITHM = '''
"""Supervised learning that doubles the loss."""
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rlft_cli.returns import action_log_prob


@dataclass(frozen=True, kw_only=True)
class Doubled:
    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "labels"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes")
    uses_target: ClassVar[bool] = False
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    times: float
    state: dict[str, Any] = field(init=False, default_factory=dict)

    @property
    def reads(self):
        return frozenset()

    def values(self, scores):
        return scores

    def prepare(self, trajectory):
        return trajectory

    def loss(self, output, trajectory, target):
        return -self.times * action_log_prob(output.scores, trajectory.action)
'''
REWARD = '''
"""Every tag but O is praised."""
from dataclasses import dataclass
from typing import ClassVar

import torch
from thinned import every_other


@dataclass(frozen=True, kw_only=True)
class Loud:
    decisions: ClassVar[tuple[str, ...]] = ("tags",)

    praise: float

    def __call__(self, action, mask, batch):
        return torch.where(mask & (action != 0), self.praise, 0.0)
'''


def test_own_options_live_in_a_folder_of_ones_own(
    rlft: Any, ner: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(here / "code"))
    files = {
        "code/own_parts/__init__.py": '"""Mine."""\n',
        "code/own_parts/doubled.py": ALGORITHM,
        "code/own_parts/loud.py": REWARD,
        "conf/algo/doubled.yaml": (
            "# Twice the loss.\ndefaults:\n  - override /feedback@_global_.feedback: full\n"
            "  - override /memory@_global_.memory: latest\n  - override /explore@_global_.explore: greedy\n\n"
            "_target_: own_parts.doubled.Doubled\n\n# How often the loss counts; above 0.\ntimes: 2.0\n"
        ),
        "conf/reward/loud.yaml": "# Praise for every tag.\n_target_: own_parts.loud.Loud\n\n# For each tag.\npraise: 0.5\n",
    }
    for name, content in files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(content)
    words = (*TRAIN, "--config-dir", "conf", *NER, "passes=1", "reward=loud")
    rlft(*words, "algo=doubled", "algo.tmies=3").refused(
        2, "algo.tmies: no such key of algo=doubled; did you mean algo.times?"
    )
    done = rlft(*words, "algo=doubled", "run_dir=own")
    assert (done.status, done.err) == (0, ""), done
    assert result("own")["algorithm"] == "doubled"
    done = rlft(*words, "algo=dqn", "run_dir=own_reward")
    assert (done.status, done.err) == (0, ""), done
    reward = result("own_reward")["test"]["reward"]["value"]
    assert reward == pytest.approx(0.5 * float(tags_but_o("own_reward", rlft)) / 8)


def tags_but_o(run: str, rlft: Callable[..., Any]) -> int:
    """How many tags but O a run's checkpoint gives to the words of the test split."""
    assert rlft("predict", f"checkpoint={run}", "input=ner/test.conll", "output=told.conll").status == 0
    lines = Path("told.conll").read_text().split("\n")
    return sum(line.split("\t")[1] != "O" for line in lines if line)
