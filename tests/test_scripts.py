"""The scripts behind the README's tables: rows are kept and go on where they stopped; tables come from JSON alone."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rlft_cli.errors import RlftError, UsageError

REPOSITORY = Path(__file__).parent.parent
SCRIPTS = REPOSITORY / "scripts"


def _script(name: str) -> ModuleType:
    """Import a script as Python runs it, with its folder on the path."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))


rows, main_table, feedback_table, dialogue_table, plots, kl_plots, bench, matches, readme = map(
    _script,
    (
        "_rows",
        "reproduce_main_table",
        "reproduce_feedback_table",
        "reproduce_dialogue_table",
        "plot_feedback",
        "plot_dialogue",
        "bench_training",
        "_matches",
        "readme_tables",
    ),
)


def spec(algorithm: str = "dqn", **changes: Any) -> Any:
    base = rows.Spec(
        name=f"wnut17/{algorithm}",
        data_set="wnut17",
        task="ner",
        algorithm=algorithm,
        feedback="bandit" if algorithm in ("dqn", "reinforce") else "full",
        model="tiny",
        seeds=(1,),
        metrics=("f1", "f1_conlleval"),
        overrides=("data=files", "data.dir=$RLFT_DATA/wnut17"),
        note="whole training set",
    )
    return replace(base, **changes)


def result(words: Sequence[str], value: float = 0.4) -> dict[str, Any]:
    """What rlft train writes, with the fields that a row reads."""
    chosen = dict(word.split("=", 1) for word in words if "=" in word)
    metric = {"value": value, "low": value - 0.1, "high": value + 0.1}
    bandit = chosen["feedback"] == "bandit"
    used = {
        "label_examples": 5 if bandit else 0 if chosen.get("passes") == "0" else 100,
        "label_decisions": 50,
        "reaction_episodes": 600 if bandit else 0,
        "reaction_decisions": 9000 if bandit else 0,
    }
    return {
        "task": chosen["task"],
        "algorithm": chosen["algo"],
        "feedback": chosen["feedback"],
        "selection": {"rule": "dev_metric", "metric": "f1", "passes": 2.0, "labels_of_dev_used": True},
        "examples": {"train": 100, "dev": 20, "test": 30},
        "test": {"f1": metric, "f1_conlleval": metric},
        "seconds": {"train": 12.5},
        "used": used,
        "versions": {"torch": "2"},
        "git_commit": None,
    }


class Runner:
    """Stands in for the command; writes the result of a run, or fails."""

    def __init__(self, *, fails: Callable[[Sequence[str]], int] = lambda words: 0) -> None:
        self.calls: list[list[str]] = []
        self.fails = fails

    def __call__(self, words: Sequence[str], log: Path) -> int:
        self.calls.append(list(words))
        log.write_text("first line\nlast words of the run\n")
        folder = Path(next(word for word in words if word.startswith("run_dir=")).removeprefix("run_dir="))
        assert not folder.exists()  # a half-finished run is removed first
        (folder / "state").mkdir(parents=True)
        status = self.fails(words)
        if status == 0:
            seed = int(next(word for word in words if word.startswith("seed=")).removeprefix("seed="))
            (folder / "result.json").write_text(json.dumps(result(words, 0.3 + 0.1 * seed)))
        return status


def made(folder: Path, specs: Sequence[Any], runner: Runner, **options: Any) -> tuple[Any, list[str], list[str]]:
    table = rows.Table(path=folder / "main.json", about="a test", order=tuple(one.name for one in specs))
    said: list[str] = []
    runs, data = folder / "runs", Path("/data")
    failed = rows.make(specs, table, runs=runs, data=data, runner=runner, say=said.append, **options)
    return table, failed, said


# -- rows ----------------------------------------------------------------------------------------------------------


def test_a_row_holds_what_a_reader_needs_and_no_folder_of_this_machine(tmp_path: Path) -> None:
    runner = Runner()
    table, failed, _ = made(tmp_path, [spec()], runner)
    assert failed == []
    assert "data.dir=/data/wnut17" in runner.calls[0]
    assert runner.calls[0][-1] == "console=json"
    row = table.rows()["wnut17/dqn"]
    assert row["command"] == (
        "rlft train task=ner algo=dqn model=tiny feedback=bandit data=files data.dir=$RLFT_DATA/wnut17 seed=1"
    )
    assert (row["value"], row["low"], row["high"]) == (0.4, pytest.approx(0.3), 0.5)
    assert row["also"]["f1_conlleval"]["value"] == 0.4
    assert (row["labels"], row["reactions"], row["reaction_decisions"], row["dev_labels"]) == (5, 600, 9000, 20)
    assert (row["seconds"], row["examples"]["train"], row["complete"]) == (12.5, 100, True)
    content = json.loads(table.path.read_text())
    assert content["machine"]["torch"]
    assert content["wall_seconds"] == row["wall_seconds"]
    assert str(tmp_path) not in table.path.read_text()
    assert not (tmp_path / "runs/wnut17/dqn/seed1/state").exists()  # of no use once the run has ended


def test_finished_rows_are_kept_and_changed_ones_made_again(tmp_path: Path) -> None:
    made(tmp_path, [spec("supervised"), spec("dqn")], Runner())
    runner = Runner()
    made(tmp_path, [spec("supervised"), spec("dqn")], runner)
    assert runner.calls == []
    changed = spec("dqn", overrides=(*spec().overrides, "passes=2"))
    table, *_ = made(tmp_path, [spec("supervised"), changed], runner)
    assert ["passes=2" in call for call in runner.calls] == [True]
    assert table.rows()["wnut17/dqn"]["command"].endswith("passes=2 seed=1")
    made(tmp_path, [spec("supervised"), changed], runner, again=True)
    assert len(runner.calls) == 3


def test_a_run_of_another_table_is_not_made_twice(tmp_path: Path) -> None:
    made(tmp_path, [spec(seeds=(1, 2))], Runner())
    other = rows.Table(path=tmp_path / "other.json", about="a test", order=("wnut17/again", "wnut17/else"))
    again = [spec(name="wnut17/again", seeds=(1, 2, 3)), spec(name="wnut17/else", metrics=("f1_conlleval",))]
    runner = Runner()
    failed = rows.make(again, other, runs=tmp_path / "r", data=Path("/data"), runner=runner, say=lambda text: None)
    assert failed == []
    folders = [next(word for word in call if word.startswith("run_dir=")) for call in runner.calls]
    assert [folder.partition("/r/")[2] for folder in folders] == ["wnut17/again/seed3", "wnut17/else/seed1"]
    assert other.rows()["wnut17/again"]["seeds"] == [1, 2, 3]


def test_a_changed_note_is_told_without_a_new_run(tmp_path: Path) -> None:
    made(tmp_path, [spec()], Runner())
    runner = Runner()
    table, *_ = made(tmp_path, [spec(note="half of the training set")], runner)
    assert runner.calls == []
    assert table.rows()["wnut17/dqn"]["note"] == "half of the training set"


def test_two_rows_at_a_time_share_the_processors_and_give_the_same_rows(tmp_path: Path) -> None:
    specs = [spec(name=name, seeds=(1, 2)) for name in ("wnut17/dqn", "wnut17/reinforce")]
    alone, _, _ = made(tmp_path / "one", specs, Runner())
    runner = Runner()
    together, failed, _ = made(tmp_path / "two", specs, runner, jobs=2)
    assert failed == [] and len(runner.calls) == 4
    assert all(any(word.startswith("hardware.threads=") for word in call) for call in runner.calls)
    for name, row in together.rows().items():
        assert row["value"] == alone.rows()[name]["value"] and {run["jobs"] for run in row["runs"]} == {2}


def test_several_seeds_give_their_mean_and_range_and_can_be_stopped_between(tmp_path: Path) -> None:
    several = spec(seeds=(1, 2, 3))

    def stop_at_two(words: Sequence[str]) -> int:
        if "seed=2" in words:
            raise KeyboardInterrupt
        return 0

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, [several], Runner(fails=stop_at_two))
    begun = json.loads((tmp_path / "main.json").read_text())["rows"][0]
    assert (begun["seeds"], begun["complete"]) == ([1], False)
    runner = Runner()
    table, *_ = made(tmp_path, [several], runner)
    assert [call for call in runner.calls if "seed=1" in call] == []
    row = table.rows()["wnut17/dqn"]
    assert (row["seeds"], row["complete"]) == ([1, 2, 3], True)
    assert (row["value"], row["low"], row["high"]) == (pytest.approx(0.5), pytest.approx(0.4), pytest.approx(0.6))
    assert row["interval"] == "lowest and highest of the seeds"
    assert [run["value"] for run in row["runs"]] == [pytest.approx(v) for v in (0.4, 0.5, 0.6)]


def test_a_failed_row_is_told_with_the_end_of_its_log_and_the_others_go_on(tmp_path: Path) -> None:
    table, failed, said = made(
        tmp_path, [spec("supervised"), spec("dqn")], Runner(fails=lambda words: int("algo=supervised" in words))
    )
    assert failed == [spec("supervised").command(1)]
    assert any("exit status 1" in text and "last words of the run" in text for text in said)
    assert list(table.rows()) == ["wnut17/dqn"]


def test_what_rows_read_is_made_once_before_them_and_whole_or_not_at_all(tmp_path: Path) -> None:
    step = rows.Step(output="$RUNS/wnut17/log.jsonl", words=("simulate-logs", "output=$RUNS/wnut17/log.jsonl"))
    made_of = [spec(name=f"wnut17/{name}", before=(step,)) for name in ("ips", "banditnet")]
    train, logs = Runner(), []

    def run(words: Sequence[str], log: Path) -> int:
        if words[0] == "train":
            return train(words, log)
        logs.append(words)
        Path(words[1].removeprefix("output=")).write_text("half of it" if len(logs) == 1 else "all of it")
        return int(len(logs) == 1)

    output = tmp_path / "runs/wnut17/log.jsonl"
    _, failed, said = made(tmp_path, made_of[:1], run)  # type: ignore[arg-type]
    assert failed == [made_of[0].command(1)] and not output.exists() and train.calls == []
    assert any("exit status 1" in line for line in said)
    _, failed, _ = made(tmp_path, made_of, run, jobs=2)  # type: ignore[arg-type]
    assert failed == [] and len(train.calls) == 2
    assert (output.read_text(), len(logs)) == ("all of it", 2)


class Measuring:
    """Stands in for training and evaluations; those named in ``fails`` fail."""

    def __init__(self, *, fails: Sequence[str] = ()) -> None:
        self.train, self.evals, self.fails = Runner(), list[list[str]](), fails

    def __call__(self, words: Sequence[str], log: Path) -> int:
        if words[0] == "train":
            return self.train(words, log)
        self.evals.append(list(words))
        chosen = dict(word.split("=", 1) for word in words if "=" in word)
        status = int(any(name in chosen["checkpoint"] for name in self.fails))
        if status == 0:
            Path(chosen["output"]).write_text(json.dumps({"from": chosen["checkpoint"]}))
        log.write_text("said")
        return status


def begun(name: str = "then", **changes: Any) -> Any:
    """A row that begins with the run of another one and is measured on its own."""
    words = ("eval", "checkpoint=$RUN", "against=$RUNS/wnut17/dqn/seed$SEED", "output=$RUN/sampled.json")
    return spec(
        name=f"wnut17/{name}",
        overrides=("init=$RUNS/wnut17/dqn/seed$SEED",),
        needs=("wnut17/dqn",),
        then=(rows.Step(output="$RUN/sampled.json", words=words),),
        read=lambda folder: {"measured_on": json.loads((folder / "sampled.json").read_text())["from"]},
        seeds=(1, 2),
        **changes,
    )


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_row_begins_with_the_run_of_another_and_is_measured(tmp_path: Path, jobs: int) -> None:
    runner = Measuring()
    table, failed, _ = made(tmp_path, [spec(seeds=(1, 2)), begun()], runner, jobs=jobs)  # type: ignore[arg-type]
    assert failed == [] and len(runner.train.calls) == 4 and len(runner.evals) == 2
    row, runs = table.rows()["wnut17/then"], tmp_path / "runs/wnut17"
    assert [run["measured_on"] for run in row["runs"]] == [f"{runs}/then/seed{seed}" for seed in (1, 2)]
    assert row["runs"][1]["command"].endswith("init=$RUNS/wnut17/dqn/seed2 seed=2")
    assert row["runs"][1]["measured"] == [
        "rlft eval checkpoint=$RUNS/wnut17/then/seed2 against=$RUNS/wnut17/dqn/seed2 output=$RUNS/wnut17/then/seed2/sampled.json"
    ]
    began = [next(word for word in call if word.startswith("run_dir")) for call in runner.train.calls]
    for seed in (1, 2):
        places = [began.index(f"run_dir={runs}/{name}/seed{seed}") for name in ("dqn", "then")]
        assert places == sorted(places)
    assert f"against={runs}/dqn/seed1" in sorted(runner.evals)[0]


def test_what_was_trained_is_not_trained_again_where_only_its_measuring_failed(tmp_path: Path) -> None:
    both = [spec(seeds=(1, 2)), begun()]
    runner = Measuring(fails=("then",))
    _, failed, said = made(tmp_path, both, runner)  # type: ignore[arg-type]
    assert failed == [begun().command(seed) for seed in (1, 2)] and any("exit status 1" in line for line in said)
    runner = Measuring()
    table, failed, _ = made(tmp_path, both, runner)  # type: ignore[arg-type]
    assert failed == [] and runner.train.calls == [] and len(runner.evals) == 2
    assert table.rows()["wnut17/then"]["complete"]
    step = begun().then[0]
    other = begun()
    other = replace(other, then=(replace(step, words=(*step.words, "decode=sample")),))
    runner = Measuring()
    _, failed, _ = made(tmp_path, [both[0], other], runner)  # type: ignore[arg-type]
    assert failed == [] and runner.train.calls == [] and all("decode=sample" in call for call in runner.evals)
    _, failed, _ = made(tmp_path, [both[0], other], runner, again=True)  # type: ignore[arg-type]
    assert failed == [] and len(runner.train.calls) == 4


def test_a_row_that_begins_with_a_run_that_is_made_again_is_made_again_too(tmp_path: Path) -> None:
    made(tmp_path, [spec(seeds=(1, 2)), begun()], Measuring())  # type: ignore[arg-type]
    changed = spec(seeds=(1, 2), overrides=(*spec().overrides, "passes=2"))
    runner = Measuring()
    _, failed, _ = made(tmp_path, [changed, begun()], runner)  # type: ignore[arg-type]
    assert failed == [] and len(runner.train.calls) == 4 and len(runner.evals) == 2
    _, _, _ = made(tmp_path, [changed, begun()], runner)  # type: ignore[arg-type]
    assert len(runner.train.calls) == 4


def test_of_a_run_that_fails_again_nothing_older_is_shown(tmp_path: Path) -> None:
    both = spec(seeds=(1, 2))
    made(tmp_path, [both], Runner())
    table, failed, _ = made(tmp_path, [both], Runner(fails=lambda words: int("seed=2" in words)), again=True)
    assert failed == [both.command(2)]
    assert [run["seed"] for run in table.rows()["wnut17/dqn"]["runs"]] == [1]
    table, *_ = made(tmp_path, [both], Runner(fails=lambda words: 1), again=True)
    assert table.rows() == {}


def test_a_row_without_the_run_that_it_needs_says_which(tmp_path: Path) -> None:
    runner = Measuring()
    _, failed, said = made(tmp_path, [begun()], runner)  # type: ignore[arg-type]
    assert failed == [begun().command(seed) for seed in (1, 2)] and runner.train.calls == []
    assert "needs the run of wnut17/dqn, seed 1, which is not there: --only wnut17/dqn --again" in said[0]


def test_the_curves_of_a_run_are_kept_short(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    lines: list[dict[str, Any]] = [{"phase": "warm_start", "step": 1, "reactions": 0, "regret": 7}]
    lines += [{"phase": "main", "step": n, "reactions": 10 * n, "regret": n} for n in range(1, 204)]
    lines += [{"phase": "main", "step": 203, "reactions": 2030, "dev.f1": 0.4}, {"phase": "main", "step": 204}]
    log.write_text("\n".join(map(json.dumps, lines)))
    found = rows.read_curves(log, "f1")
    assert found["dev.f1"] == [[2030, 0.4]]
    assert found["regret"][0] == [10, 1] and found["regret"][-1] == [2030, 203] and len(found["regret"]) <= 53


def test_a_row_that_says_something_else_than_its_run_is_refused(tmp_path: Path) -> None:
    words = [word.replace("feedback=bandit", "feedback=full") for word in spec().words(1)]
    with pytest.raises(RlftError, match=r"row wnut17/dqn says ner, bandit; the run was ner, full"):
        rows.read_run(spec(), 1, result(words), 1.0)
    with pytest.raises(RlftError, match="no test metric accuracy"):
        rows.read_run(spec(metrics=("accuracy",)), 1, result(spec().words(1)), 1.0)


# -- the main table ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_row_of_the_main_table_is_a_command_that_rlft_accepts(tmp_path: Path) -> None:
    from rlft_cli.cli import main

    for name in {one.data_set for one in main_table.specs()}:
        (tmp_path / name).mkdir(exist_ok=True)
    for one in main_table.specs():
        words = [word.replace("$RLFT_DATA", str(tmp_path)) for word in one.words(1)]
        assert main([*words, "--cfg", "job"]) == 0


def test_the_data_folder_is_asked_for_only_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLFT_DATA", raising=False)
    assert rows.data_folder(None, main_table.quick_specs()) is None
    with pytest.raises(UsageError, match=r"--data DIR, or set RLFT_DATA"):
        rows.data_folder(None, main_table.specs())
    with pytest.raises(UsageError, match="it has no wnut17, btc_twitter"):
        rows.data_folder(str(tmp_path), main_table.specs())
    (tmp_path / "wnut17").mkdir()
    assert rows.data_folder(str(tmp_path), rows.chosen(main_table.specs(), "wnut17")) == tmp_path.resolve()


def test_rows_are_chosen_by_name() -> None:
    every = main_table.specs()
    assert [one.name for one in rows.chosen(every, "trec6/dqn,wnut17")] == [
        "wnut17/supervised",
        "wnut17/start",
        "wnut17/dqn",
        "wnut17/reinforce",
        "trec6/dqn",
    ]
    with pytest.raises(UsageError, match="--only trec: no such row"):
        rows.chosen(every, "trec")


def filled_results(folder: Path) -> dict[str, Any]:
    still = spec("untrained", typed="supervised", overrides=("passes=0",))
    table, *_ = made(folder, [still, spec("supervised"), spec("dqn", seeds=(1, 2, 3))], Runner())
    return json.loads(table.path.read_text())  # type: ignore[no-any-return]


def test_the_markdown_says_value_interval_share_time_and_what_was_used(tmp_path: Path) -> None:
    lines = main_table.markdown(filled_results(tmp_path)).splitlines()
    assert lines[0] == "| data set | untrained | supervised, full feedback | dqn, bandit feedback |"
    assert lines[2] == (
        "| **WNUT-17**<br>ner, strict span F1<br>tiny "
        "| **0.400** [0.300, 0.500]<br>conlleval F1 0.400 [0.300, 0.500]<br>no labels "
        "| **0.400** [0.300, 0.500]<br>conlleval F1 0.400 [0.300, 0.500]<br>100 labels, 12 s "
        "| **0.500** [0.400, 0.600] (125%)<br>conlleval F1 0.500 [0.400, 0.600]<br>5 labels + 600 reactions, 12 s"
        "<br>3 seeds |"
    )
    text = "\n".join(lines)
    assert "for several seeds the mean, and the lowest and highest of them" in text
    assert "also read the labels of the dev split: WNUT-17 20; the others kept the last one." in text
    assert text.count("rlft train task=ner") == 5


# -- the dialogue table --------------------------------------------------------------------------------------------


def reply_run(seed: int, greedy: Sequence[float], sampled: Sequence[float], **further: Any) -> dict[str, Any]:
    found = {"value": sum(sampled) / len(sampled), "low": 0.0, "high": 1.0}
    shown = {"reference": "a | b", "greedy": "yes\nsir", "sampled": "no"}
    return {
        "seed": seed,
        "command": f"rlft train seed={seed}",
        "measured": [f"rlft eval seed={seed}"],
        "jobs": 1,
        "scores": {"greedy": list(greedy), "sampled": list(sampled)},
        "sampled": {"rouge_l": found},
        "samples": [shown],
        "signatures": {"bleu": "tok:13a", "rouge_l": "f:mean"},
        **further,
    }


def reply_row(algorithm: str, title: str, *runs: dict[str, Any], value: float = 0.3) -> dict[str, Any]:
    return {
        "name": f"sgd/{algorithm}",
        "data_set": "sgd",
        "task": "dialogue",
        "algorithm": algorithm,
        "title": title,
        "metric": "rouge_l",
        "value": value,
        "low": 0.2,
        "high": 0.4,
        "seeds": [run["seed"] for run in runs],
        "complete": True,
        "labels": 9,
        "dev_labels": 0,
        "reactions": 0,
        "seconds": 60,
        "note": "a few",
        "runs": list(runs),
    }


AWAY = {"against": {"kl": {"value": 2.0, "low": 1.0, "high": 3.0}, "win_rate": {"value": 0.6, "low": 0.5, "high": 0.7}}}


def reply_rows() -> list[dict[str, Any]]:
    control = [reply_run(1, [0.1, 0.3], [0.0, 0.2], **AWAY), reply_run(2, [0.3, 0.3], [0.2, 0.2], **AWAY)]
    return [
        reply_row("supervised", "supervised", reply_run(1, [0.2, 0.2], [0.1, 0.1]), value=0.2),
        reply_row("more", "then more supervised", *control),
        reply_row("reinforce", "then REINFORCE", reply_run(1, [0.3, 0.5], [0.0, 0.2], **AWAY)),
    ]


def test_gains_are_over_the_control_on_the_same_replies() -> None:
    _, control, ours = reply_rows()
    assert dialogue_table.gains(ours, control)["greedy"] == {  # seed 1 alone is in both: .2 more on either reply
        name: pytest.approx(0.2) for name in ("value", "low", "high")
    }
    assert dialogue_table.gains(ours, control)["sampled"]["value"] == 0
    both = reply_row("reinforce", "", *ours["runs"], reply_run(2, [0.3, 0.5], [0.2, 0.2]))
    found = dialogue_table.gains(both, control)["greedy"]  # means over the seeds: .3, .5 against .2, .3
    assert (found["value"], found["low"], found["high"]) == (
        pytest.approx(0.15),
        pytest.approx(0.1),
        pytest.approx(0.2),
    )
    ours["runs"][0]["scores"]["further"] = [0.9, 0.9, 0.9]
    assert dialogue_table.gains(ours, control)["greedy"]["value"] == pytest.approx(0.2)  # the control has none
    control["runs"][0]["scores"]["further"] = [0.5, 0.4, 0.3]
    assert dialogue_table.gains(ours, control)["greedy"]["value"] == pytest.approx(0.5)
    assert dialogue_table.gains(ours, control)["sampled"]["value"] == 0
    assert dialogue_table.gains(ours, None) == {}
    assert dialogue_table.gains(ours, reply_row("more", "", reply_run(3, [0, 0], [0, 0]))) == {}


def test_the_dialogue_table_says_gains_kl_and_wins() -> None:
    machine = {"cpu": "a processor", "cores": 2, "torch": "2", "transformers": "5"}
    lines = dialogue_table.markdown({"rows": reply_rows(), "machine": machine, "clock_seconds": 60}).splitlines()
    assert lines[0].startswith("| Schema-Guided Dialogue | greedy ROUGE-L | sampled ROUGE-L |")
    (line,) = [line for line in lines if line.startswith("| then REINFORCE | **")]
    assert line == (
        "| then REINFORCE | **0.300 [0.200, 0.400]** | 0.100 [0.000, 1.000] | **+0.200 [+0.200, +0.200]** "
        "| +0.000 [+0.000, +0.000] | 2.00 [1.00, 3.00] | 0.600 [0.500, 0.700] | 9 labels | 60 s |"
    )
    text = "\n".join(lines)
    assert "| then more supervised | **0.300 [0.200, 0.400]**, 2 seeds | 0.150 [0.100, 0.200] |  |  | 2.00" in text
    assert "sampled, over more supervised" in lines[0]
    start, _, ours = reply_rows()
    lines = dialogue_table.markdown({"rows": [start, ours], "machine": machine, "clock_seconds": 60}).splitlines()
    assert "sampled, over the start" in lines[0]  # where no control was run
    assert any(line.startswith("| then REINFORCE | ") and "| **+0.200 [" in line for line in lines)
    assert "| reference 1 | a \\| b |" in text and "| supervised | yes sir |" in text
    assert "Signatures: bleu `tok:13a`." in text
    assert "rlft train seed=2\nrlft eval seed=2" in text


def test_preferences_and_simulated_users_have_tables_of_their_own() -> None:
    known = {"labels": 9, "dev_labels": 0, "reactions": 0, "seconds": 60, "note": "a few", "complete": True}
    score = {"value": 0.8, "low": 0.7, "high": 0.9}
    gain = {"value": 0.05, "low": 0.01, "high": 0.09}
    pairs = known | score | {"data_set": "dailydialog_pp_pref", "task": "preference", "algorithm": "reward_model"}
    pairs |= {"title": "reward model", "seeds": [1], "runs": [{"jobs": 1, "command": "rlft train"}]}
    also = {"turns": {"value": 8, "low": 7, "high": 9}, "success_gain": gain}
    baselines = {name: {"success": score, "turns": also["turns"]} for name in ("random", "hand_written")}
    runs = [{"jobs": 1, "command": f"rlft {n}", "also": also, "baselines": baselines} for n in range(2)]
    users = known | score | {"data_set": "goals", "task": "goal_dialogue", "algorithm": "dqn", "title": "DQN"}
    users |= {"seeds": [1, 2], "also": also, "runs": runs}
    machine = {"cpu": "a processor", "cores": 2, "torch": "2", "transformers": "5"}
    content = {"rows": [pairs, users], "machine": machine, "clock_seconds": 60}
    lines = dialogue_table.markdown(content).splitlines()
    assert "| reward model | **0.800 [0.700, 0.900]** | 9 labels | 60 s |" in lines
    assert "| hand-written | **0.800 [0.700, 0.900]** | 8.0 [7.0, 9.0] | | | |" in lines
    row = "| DQN | **0.800 [0.700, 0.900]**, 2 seeds | 8.0 [7.0, 9.0] | {} | 9 labels | 60 s |"
    assert row.format("**+0.050 [+0.010, +0.090]**") in lines
    runs[1]["also"] = also | {"success_gain": gain | {"low": -0.01}}  # not by every seed
    assert row.format("+0.050 [+0.010, +0.090]") in dialogue_table.markdown(content).splitlines()


def test_a_row_of_replies_keeps_what_gains_and_curves_need(tmp_path: Path) -> None:
    lines = [{"prediction": "a b", "reference": "a b", "reward": 1}, {"prediction": "x", "reference": "y", "reward": 0}]
    (tmp_path / "test_predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    against = {
        "test": {},
        "difference": {},
        "win_rate": {},
        "kl": {"value": 2.0},
        "checkpoint": "/home",
        "predictions": [],
    }
    sampled = {"predictions": ["a", "y"], "references": ["a b", "y"], "test": {}, "signatures": {}, "against": against}
    (tmp_path / "sampled.json").write_text(json.dumps(sampled))
    (tmp_path / "result.json").write_text(json.dumps({"from_reference": {"kl": 1.5}}))
    log: list[dict[str, Any]] = [{"phase": "warm_start", "kl": 9, "episode_reward": 9}]
    log += [{"phase": "main", "kl": 0.5, "episode_reward": 0.3}, {"phase": "main", "loss": 0.1}]
    log += [{"phase": "main", "dev.kl": 0.6, "dev.sampled_rouge_l": 0.2, "dev.rouge_l": 0.4}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    found = dialogue_table.read_replies(tmp_path, "en")
    assert found["scores"] == {"greedy": [1.0, 0.0], "sampled": [0.6667, 1.0]}  # P = 1, R = 1/2: F = 2/3
    assert found["way"] == {"reward": [[0.5, 0.3]], "dev": [[0.6, 0.2, 0.4]]}
    assert found["samples"][0] == {"reference": "a b", "greedy": "a b", "sampled": "a"}
    assert "/home" not in json.dumps(found) and found["against"]["kl"] == {"value": 2.0}
    assert found["from_reference"] == {"kl": 1.5}
    further = {"predictions": ["a b", "x", "c"], "references": ["a b", "y", "c"], "test": {"rouge_l": {"value": 0.7}}}
    (tmp_path / dialogue_table.GREEDY_FILE).write_text(json.dumps(further))
    found = dialogue_table.read_replies(tmp_path, "en")
    assert found["scores"]["greedy"] == [1.0, 0.0] and found["scores"]["further"] == [1.0, 0.0, 1.0]
    (tmp_path / "sampled.json").write_text(json.dumps({**sampled, "references": ["a b", "z"]}))
    with pytest.raises(RlftError, match="is about other replies"):
        dialogue_table.read_replies(tmp_path, "en")


def test_every_run_from_rewards_has_its_start_and_the_main_one_its_control() -> None:
    found = {one.name: one for one in dialogue_table.specs()}
    order = list(found)
    for one in found.values():
        assert all(order.index(name) < order.index(one.name) for name in one.needs)
        assert all(set(one.seeds) <= set(found[name].seeds) for name in one.needs if "preferences" not in name)
        if one.task == "dialogue":
            assert (
                int(one.overrides[[w.partition("=")[0] for w in one.overrides].index("evaluation.max_examples")][24:])
                >= 200
            )
            begins = [word for word in one.overrides if word.startswith("init=")]
            assert begins == ([f"init=$RUNS/{one.data_set}/supervised/seed$SEED"] if one.needs else [])
    assert found["taskmaster4_coffee/reinforce"].seeds == found["taskmaster4_coffee/more"].seeds == (1, 2)


def test_reward_against_kl_is_drawn_for_runs_from_rewards(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    some = reply_rows()
    assert kl_plots.figures({"rows": some}, tmp_path) == []
    some[2]["runs"][0]["way"] = {"reward": [[0.0, 0.2], [1.0, 0.3]], "dev": [[0.5, 0.2, 0.3], [1.0, 0.3, 0.3]]}
    assert list(kl_plots.ways(some, "sgd")) == ["REINFORCE"]
    (path,) = kl_plots.figures({"rows": some}, tmp_path)
    assert path.name == "dialogue_sgd.png" and path.read_bytes().startswith(b"\x89PNG")


# -- speed ---------------------------------------------------------------------------------------------------------


def test_contenders_take_turns_and_the_first_round_is_for_warming_up() -> None:
    order: list[str] = []

    def runner(name: str) -> Callable[[], dict[str, Any]]:
        def lap() -> dict[str, Any]:
            order.append(name)
            return {"seconds": float(len(order)), "examples": 8, "steps": 2}

        return lap

    found = bench.rounds({"a": runner("a"), "b": runner("b")}, 2)
    assert "".join(order) == "baabba"
    assert [(laps["a"]["seconds"], laps["b"]["seconds"]) for laps in found] == [(3.0, 4.0), (6.0, 5.0)]


def laps(*seconds: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {
            "a": {"seconds": a, "cpu_seconds": a, "examples": 10, "steps": 2},
            "b": {"seconds": b, "cpu_seconds": b, "examples": 10, "steps": 5},
        }
        for a, b in seconds
    ]


@pytest.mark.parametrize(
    ("unit", "limits", "ratio", "met"),
    [
        ("speed", {"least": 1.5}, 2.0, True),
        ("speed", {"least": 2.5}, 2.0, False),
        ("cost", {"most": 0.4}, 0.5, False),
        ("cost", {}, 0.5, None),
    ],
)
def test_ratios_are_medians_within_rounds(
    unit: str, limits: Mapping[str, float], ratio: float, met: bool | None
) -> None:
    comparison = matches.Comparison(name="x", what="x", one="a", other="b", unit=unit, **limits)
    row = bench.compared(comparison, laps((1.0, 2.0), (10.0, 30.0), (2.0, 2.0)))  # b / a: 2, 3, 1
    assert (row["ratio"], row["met"]) == (ratio, met)
    assert (row["low"], row["high"]) == ((1.0, 3.0) if unit == "speed" else (0.333, 1.0))
    assert row["one"] == {
        "name": "a",
        "examples_per_second": 5.0,
        "milliseconds_per_step": 1000.0,
        "examples_per_step": 5.0,
    }


def test_the_targets_are_those_of_the_issue() -> None:
    words = ("data=sample",)
    groups = [matches.trainer_group("ner", words, "bf16"), matches.steps_group("ner", words, "bf16")]
    found = {one.name: one.least or one.most for group in groups for one in group.comparisons}
    assert found == {
        "ner_trainer_bf16": 1.5,
        "ner_trainer_fp32": 1.5,
        "ner_trainer_defaults": 2.5,
        "ner_dqn": 1.9,
        "ner_dqn_replay": 1.9,
        "ner_reinforce": 1.4,
        "ner_bare": 0.9,
    }
    for group in groups:
        names = {plan.name for plan in group.plans}
        assert all({one.one, one.other} <= names for one in group.comparisons)


SPEED = {
    "machine": {"cpu": "a processor", "cores": 2, "threads": 2, "torch": "2", "transformers": "5", "load": 0.1},
    "settings": {"repetitions": 5, "model": "minilm", "data": {"ner": "wnut17"}, "examples": {"ner": 256}},
    "command": "python scripts/bench_training.py --data $RLFT_DATA",
    "rows": [
        {
            "what": "a",
            "unit": "speed",
            "ratio": 1.61,
            "low": 1.5,
            "high": 1.7,
            "at_least": 1.5,
            "at_most": None,
            "met": True,
            "one": {"examples_per_second": 90.4},
            "other": {"examples_per_second": 56.2},
        },
        {
            "what": "b",
            "unit": "seconds",
            "ratio": 0.52,
            "low": 0.5,
            "high": 0.6,
            "at_least": None,
            "at_most": 0.5,
            "met": False,
        },
    ],
}


def test_the_speed_table_says_targets_and_whether_they_are_met() -> None:
    lines = bench.markdown(SPEED).splitlines()
    assert lines[2] == "| a | **1.61** [1.50, 1.70] | 90/s : 56/s | at least 1.5 | yes |"
    assert lines[3] == "| b | **0.52** s [0.50, 0.60] | – | at most 0.5 | **no** |"
    assert "256 examples of wnut17" in lines[5]


def test_the_data_folder_of_this_machine_stays_out_of_the_results() -> None:
    assert bench.without_folder(["--data", "/home/me", "--quick"]) == ["--data", "$RLFT_DATA", "--quick"]
    assert bench.without_folder(["--data=/home/me"]) == ["--data=$RLFT_DATA"]


# -- the README ----------------------------------------------------------------------------------------------------

TEXT = (
    "# rlft\n<!-- table:main -->\nold\n<!-- /table:main -->\ntext\n<!-- table:speed -->\n<!-- /table:speed -->\nend\n"
)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    results = tmp_path / "docs/results"
    results.mkdir(parents=True)
    main_rows = filled_results(tmp_path)
    (results / "main.json").write_text(json.dumps(main_rows))
    (results / "feedback.json").write_text(json.dumps(main_rows))
    machine = {"cpu": "a processor", "cores": 2, "torch": "2", "transformers": "5"}
    replies = {"rows": reply_rows(), "machine": machine, "clock_seconds": 60}
    (results / "dialogue.json").write_text(json.dumps(replies))
    (tmp_path / "docs/dialogue.md").write_text("<!-- table:dialogue -->\n<!-- /table:dialogue -->\n")
    (results / "speed.json").write_text(json.dumps(SPEED))
    (tmp_path / "README.md").write_text(TEXT)
    (tmp_path / "docs/feedback.md").write_text("<!-- table:feedback -->\n<!-- /table:feedback -->\n")
    return tmp_path


def test_the_pages_are_written_once_and_then_agree(pages: Path) -> None:
    words = ["--root", str(pages)]
    with pytest.raises(RlftError, match=r"README.md differs from the results; run python scripts/readme_tables.py"):
        readme.main([*words, "--check"])
    assert (pages / "README.md").read_text() == TEXT
    assert readme.main(words) == 0
    text = (pages / "README.md").read_text()
    assert "\nold\n" not in text
    assert text.startswith("# rlft\n<!-- table:main -->\n| data set |")
    assert text.endswith("<!-- /table:speed -->\nend\n")
    lines = (pages / "docs/feedback.md").read_text().splitlines()
    assert lines[1] == "| WNUT-17 | strict span F1 | less than all labels | used | time |"
    assert lines[5].startswith("| dqn | **0.500** [0.400, 0.600], 3 seeds | -10.0 points | 5 labels + 600")
    assert readme.main([*words, "--check"]) == 0
    (pages / "README.md").write_text(text.replace("**0.400**", "**0.900**"))
    with pytest.raises(RlftError, match="differs"):
        readme.main([*words, "--check"])


def test_curves_are_drawn_for_what_has_them(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")

    def row(title: str, algorithm: str, labels: int, *curves: dict[str, Any]) -> dict[str, Any]:
        runs = [{"curves": curve, "reactions": 10} if curve else {} for curve in curves]
        known = {"data_set": "trec6", "metric": "accuracy", "feedback": "bandit"}
        return {**known, "title": title, "algorithm": algorithm, "labels": labels, "runs": runs}

    dev = {"dev.accuracy": [[0, 0.2], [20, 0.6]]}  # 20 numbers were told of 10 answers
    found = [
        row("all labels", "supervised", 9, {"dev.accuracy": [[0, 0.7], [0, 0.9]]}, {}),
        row("bandit alone, greedy", "dqn", 0, dev | {"regret": [[10, 4], [20, 6]]}),
        row("bandit alone, UCB1", "dqn", 0, dev | {"regret": [[10, 5], [20, 9]]}),
    ]
    assert plots.learning(found)["all labels"] == [([0], [0.9])]
    assert list(plots.regret(found)) == ["greedy", "UCB1"]
    assert plots.regret(found)["greedy"] == [([0.0, 5, 10], [0.0, 4, 6])]
    made = plots.figures({"rows": found}, tmp_path)
    assert [path.name for path in made] == ["feedback_trec6.png", "feedback_trec6_regret.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_a_page_without_markers_or_results_is_refused(pages: Path) -> None:
    with pytest.raises(RlftError, match=r"<!-- table:main --> and <!-- /table:main --> once each.*found 0 and 0"):
        readme.filled("no markers", "main", "a table")
    (pages / "docs/results/speed.json").unlink()
    with pytest.raises(RlftError, match=r"speed.json is missing; make it with scripts/bench_training.py"):
        readme.main(["--root", str(pages)])


# -- for real ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("table", [feedback_table, dialogue_table], ids=["feedback", "dialogue"])
def test_every_row_of_a_table_is_a_command_that_rlft_accepts(tmp_path: Path, table: ModuleType) -> None:
    from rlft_cli.cli import main

    for one in [*table.specs(), *table.quick_specs()]:
        (tmp_path / one.data_set).mkdir(exist_ok=True)
        for words in (one.words(1), *(step.words for step in one.steps(1))):
            found = [word.replace("$RLFT_DATA", str(tmp_path)).replace("$RUNS", "runs") for word in words]
            assert main([*found, "--cfg", "job"]) == 0


@pytest.mark.slow
def test_a_real_row_of_the_tiny_model(tmp_path: Path) -> None:
    small = (
        "data=sample",
        "data.max_train=30",
        "data.max_dev=10",
        "data.max_test=10",
        "passes=1",
        "warm_start.passes=1",
    )
    table = rows.Table(path=tmp_path / "main.json", about="a test", order=("sample_ner/dqn",))
    said: list[str] = []
    failed = rows.make(
        [spec(name="sample_ner/dqn", overrides=small)], table, runs=tmp_path / "runs", data=None, say=said.append
    )
    assert failed == [], said
    row = table.rows()["sample_ner/dqn"]
    assert row["examples"] == {"train": 30, "dev": 10, "test": 10}
    assert row["reactions"] >= 30
    assert '"run_dir"' in (tmp_path / "runs/sample_ner/dqn/seed1.log").read_text()


@pytest.mark.slow
def test_real_rows_of_replies(tmp_path: Path) -> None:
    some = rows.chosen(dialogue_table.quick_specs(), "sample/supervised,sample/more,sample/reinforce")
    table = rows.Table(path=tmp_path / "dialogue.json", about="a test", order=tuple(one.name for one in some))
    said: list[str] = []
    assert rows.make(some, table, runs=tmp_path / "runs", data=None, say=said.append) == [], said
    run = table.rows()["sample/reinforce"]["runs"][0]
    assert len(run["scores"]["greedy"]) == len(run["scores"]["sampled"]) == 6
    assert run["against"]["kl"]["value"] > -1e-6 and len(run["way"]["dev"]) >= 2
    assert str(tmp_path) not in json.dumps(run)
    text = dialogue_table.markdown(json.loads(table.path.read_text()))
    assert "| then REINFORCE | **" in text and "decode=sample" in text


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ner", "classification"])
def test_the_contenders_run_side_by_side(tmp_path: Path, task: str) -> None:
    words = [
        "--quick",
        "--model",
        "tiny",
        "--examples",
        "16",
        "--repetitions",
        "1",
        "--only",
        f"{task}_trainer,{task}_steps",
        "--results",
        str(tmp_path / "speed.json"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, str(SCRIPTS / "bench_training.py"), *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stderr
    found = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert all(row["ratio"] > 0 for row in found)
    assert {row["name"] for row in found} >= {f"{task}_trainer_fp32", f"{task}_trainer_defaults", f"{task}_bare"}
