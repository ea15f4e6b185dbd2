"""The dialogue table: untrained, supervised, then learning from rewards, against as much time on more labels.

    python scripts/reproduce_dialogue_table.py --data FOLDER --jobs 2     # or RLFT_DATA=FOLDER
    python scripts/reproduce_dialogue_table.py --quick                    # tiny model, packaged samples, minutes
    python scripts/reproduce_dialogue_table.py --only taskmaster4_coffee,goals/dqn
    python scripts/reproduce_dialogue_table.py --list

Finished rows are kept in the results file; stop it whenever you like and start it again to go on. A row that begins with
the run of another one finds it in the folder of the runs. scripts/plot_dialogue.py draws reward against KL.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _rows import Row, Spec, Step, duration, ended, number, read_json
from _tables import NAMES, Script, commands, legend, used

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import Interval, paired_difference
from rlft_cli.metrics.text import Language, sentence_rouge_l

ABOUT = "The dialogue table: replies, preferences and simulated users; see scripts/reproduce_dialogue_table.py."


# fmt: off
# ======== the sizes: change them here, and nowhere else ===========================================================
@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of a data set is used; passes are over the replies of its training split."""

    words: tuple[str, ...] = ()  # further words of every command
    replies: int  # of its training split
    dev: int  # its dialogues of dev that are used
    test: int = 200  # replies of test that are written
    further: int = 0  # the same, greedily, of the main algorithm and its control, where those cannot tell a small gain
    supervised: int  # replies learned from
    rewarded: int  # prompts to which four replies each are sampled, by the main algorithm
    less: int = 0  # the same by the other algorithms
    more: int = 0  # further replies that a control learns from, in the time of the main algorithm
    seeds: tuple[int, ...] = (1,)

# SmolLM2-135M, seconds of one core while both are busy: .5 a reply learned from, .65 one sampled and learned from (more by PPO,
# GRPO and DQN), .4 one evaluated greedily, .25 one evaluated by sampling.
SIZES: dict[str, Size] = {
    "taskmaster4_coffee": Size(replies=5662, dev=6, supervised=1000, rewarded=320, less=96, more=1650,
                               further=854, seeds=(1, 2), words=("task.max_reply_tokens=28",)),  # nine in ten replies fit
    "dailydialog":        Size(replies=6738, dev=6, supervised=480, rewarded=80),
    "sgd":                Size(replies=21935, dev=3, supervised=480, rewarded=80),
    "kdconv_zh":          Size(replies=4130, dev=3, supervised=400, rewarded=64,
                               words=("data.language=zh", "task.max_reply_tokens=48")),  # two tokens and more a character
}
REWARDS = ("untrained", "supervised", "reinforce")
ROWS: dict[str, tuple[str, ...]] = {
    "taskmaster4_coffee": ("untrained", "supervised", "more", "reinforce", "ppo", "grpo", "dqn"),
    "preferences": ("reward_model",),
    "dailydialog": (*REWARDS, "reward_model"),
    "sgd": REWARDS,
    "kdconv_zh": REWARDS,
    "goals": ("dqn", "reinforce", "supervised"),
}
MODEL = ("smollm2", ("tuning=lora",))
SUPERVISED = ("optim.batch_tokens=1024", "optim.max_batch_episodes=8", "selection.by=last", "selection.every_passes=1000")
#  what learns from rewards: 4 or 8 prompts with 4 replies each; half the price of a nat of configs/recipe/, and higher rates
REWARDED = ("optim.batch_tokens=2048", "warm_start.fraction=0", "selection.by=last")
WAYS: dict[str, tuple[str, ...]] = {
    "reinforce":    ("optim.max_batch_episodes=4", "optim.lr=6e-4", "algo.kl_coefficient=0.01"),
    "reward_model": ("optim.max_batch_episodes=8", "optim.lr=4e-4"),  # the price of configs/recipe/reward/, 0.1
    "ppo":          ("optim.max_batch_episodes=8", "optim.lr=4e-4", "algo.kl_coefficient=0.01"),
    "grpo":         ("optim.max_batch_episodes=8", "optim.lr=4e-4", "algo.kl_coefficient=0.01"),
    "dqn":          ("optim.max_batch_episodes=32", "optim.lr=4e-4"),  # one reply to each prompt
}
LOOKS = 3  # evaluations on dev while learning from rewards, by which true metric and KL are drawn
#  of all pairs most have the shorter reply as the better one
PREFERENCES = ("data=files", "data.dir=$RLFT_DATA/dailydialog_pp_pref", "data.match_lengths=true", "tuning=lora",
               "data.max_dev=100", "evaluation.max_examples=400", "passes=0.3", "selection.every_passes=0.3")
GOALS: dict[str, tuple[str, ...]] = {
    "dqn": ("memory=replay", "memory.replay_ratio=2", "passes=8"),
    "reinforce": ("passes=4",),
    "supervised": (),
}
#  --quick: the packaged dialogues and a tiny model
QUICK_MODEL = ("tiny", ("tuning=full", "task.max_prompt_tokens=64", "task.max_reply_tokens=8"))
QUICK = Size(replies=30, dev=4, test=6, supervised=16, rewarded=8, less=8, more=16)
QUICK_DATA = ("data=sample", "data.max_train=16", "data.max_test=4")
QUICK_GOALS = ("data=sample", "data.max_train=24", "data.max_dev=6", "data.max_test=6", "passes=1")
# ==================================================================================================================
# fmt: on

TITLES = {
    "untrained": "untrained",
    "supervised": "supervised",
    "more": "then more supervised",
    "reinforce": "then REINFORCE",
    "reward_model": "then REINFORCE on the reward model",
    "ppo": "then PPO",
    "grpo": "then GRPO",
    "dqn": "then DQN",
}
ALGORITHMS = {"untrained": "supervised", "more": "supervised", "reward_model": "reinforce"}
METRICS = ("rouge_l", "chrf", "bleu")
LESS = ("ppo", "grpo", "dqn")
COMPARED = ("more", "reinforce")  # the aim is about their difference
GREEDY_FILE = "greedy.json"
SHOWN = 5  # replies of each run that the results file keeps
RESAMPLES = 1000


# -- rows ----------------------------------------------------------------------------------------------------------


def specs() -> list[Spec]:
    """The rows of the table, in order."""
    return [_spec(data_set, way) for data_set, ways in ROWS.items() for way in ways]


def _spec(data_set: str, way: str) -> Spec:
    if data_set == "preferences":
        return _preferences("dailydialog_pp_pref", MODEL[0], PREFERENCES)
    if data_set == "goals":
        return _goals(way, ("data=sample", *GOALS[way]))
    data = ("data=files", f"data.dir=$RLFT_DATA/{data_set}", *MODEL[1])
    return _replies(data_set, way, SIZES[data_set], MODEL[0], data)


def _replies(data_set: str, way: str, size: Size, model: str, data: Sequence[str]) -> Spec:
    algorithm = ALGORITHMS.get(way, way)
    start = f"{data_set}/supervised"
    begins = way not in ("untrained", "supervised")
    return Spec(
        name=f"{data_set}/{way}",
        title=TITLES[way],
        data_set=data_set,
        task="dialogue",
        algorithm=way,
        typed=algorithm,
        feedback="full" if algorithm == "supervised" else "bandit",
        model=model,
        seeds=(1,) if way in ("untrained", *LESS) else size.seeds,
        metrics=METRICS,
        overrides=(
            *data,
            *size.words,
            f"data.max_dev={size.dev}",
            f"evaluation.max_examples={size.test}",
            *_learned(way, size),
            *((f"init=$RUNS/{start}/seed$SEED",) if begins else ()),
        ),
        note=_note(size),
        needs=((start,) if begins else ()) + (("preferences/reward_model",) if way == "reward_model" else ()),
        then=_measured(start if begins else None, way, size),
        read=_read_chinese if "data.language=zh" in size.words else _read_english,
    )


def _learned(way: str, size: Size) -> list[str]:
    """Words that say what is learned from, and how long."""
    if way == "untrained":
        return [*SUPERVISED, "passes=0"]
    if way in ("supervised", "more"):
        return [*SUPERVISED, f"passes={(size.supervised if way == 'supervised' else size.more) / size.replies:.4f}"]
    prompts = size.less if way in LESS else size.rewarded
    prompts *= 4 if way == "dqn" else 1  # one reply to each: as many replies as the others
    passes = prompts / size.replies
    judged = (
        ["reward=reward_model", "reward.checkpoint=$RUNS/preferences/reward_model/seed1"]
        if way == "reward_model"
        else ["reward=rouge_l"]
    )
    return [*judged, *REWARDED, *WAYS[way], f"passes={passes:.4f}", f"selection.every_passes={passes / LOOKS:.5f}"]


def _measured(start: str | None, way: str, size: Size) -> tuple[Step, ...]:
    """What is measured after training: sampled replies, and of the main algorithm and its control further greedy ones."""
    sampled = _sampled(start, way, size.test)
    return (sampled, _further(size.further)) if size.further and way in COMPARED else (sampled,)


def _further(test: int) -> Step:
    output = f"$RUN/{GREEDY_FILE}"
    words = ("eval", "checkpoint=$RUN", f"evaluation.max_examples={test}", "evaluation.batch_tokens=8192")
    return Step(output=output, words=(*words, f"output={output}"))


def _sampled(start: str | None, way: str, test: int) -> Step:
    """Sampled replies to the same prompts; against those of the start, by a measure that nothing was trained on."""
    output = "$RUN/sampled.json"
    words = ["eval", "checkpoint=$RUN", "decode=sample", f"evaluation.max_examples={test}"]
    words += ["evaluation.batch_tokens=8192"]
    if start is not None:
        words += [f"against=$RUNS/{start}/seed$SEED"]
    if way != "reward_model":  # there the wins are counted by the reward model itself, beside ROUGE-L that it never saw
        words += ["reward=chrf"]
    return Step(output=output, words=(*words, f"output={output}"))


def _note(size: Size) -> str:
    def thousands(count: int) -> str:
        return f"{count:,}"

    return (
        f"supervised on {thousands(size.supervised)} of {thousands(size.replies)} training replies, then "
        + (f"{thousands(size.more)} more, or " if size.more else "")
        + f"{thousands(size.rewarded)} prompts with 4 sampled replies each"
        + (f" ({thousands(size.less)} of PPO, GRPO and DQN)" if size.less else "")
        + f"; {size.test} test replies"
        + (f", {size.further} for the greedy difference of REINFORCE from more supervised" if size.further else "")
    )


def _preferences(data_set: str, model: str, words: Sequence[str]) -> Spec:
    return Spec(
        name="preferences/reward_model",
        title="reward model",
        data_set=data_set,
        task="preference",
        algorithm="reward_model",
        feedback="full",
        model=model,
        seeds=(1,),
        metrics=("accuracy",),
        overrides=tuple(words),
        note="700 of the 2,334 training pairs (of 4,670) in which length tells nothing; 400 of 5,710 test pairs",
    )


def _goals(way: str, words: Sequence[str]) -> Spec:
    return Spec(
        name=f"goals/{way}",
        title={"dqn": "DQN, replay", "reinforce": "REINFORCE", "supervised": "supervised imitation"}[way],
        data_set="goals",
        task="goal_dialogue",
        algorithm=way,
        feedback="full" if way == "supervised" else "bandit",
        model="mlp",
        seeds=(1, 2, 3),
        metrics=("success", "turns", "success_gain"),
        overrides=tuple(words),
        note="the packaged goals with simulated users",
        read=_read_goals,
    )


def quick_specs() -> list[Spec]:
    """Every way once with a tiny model on the packaged samples; shows that all runs, not how good it is."""
    data = (*QUICK_DATA, *QUICK_MODEL[1])
    pairs = ("data=sample", *QUICK_MODEL[1], "data.max_train=16", "data.max_dev=4", "data.max_test=4", "passes=1")
    ways = list(dict.fromkeys(way for name in SIZES for way in ROWS[name]))
    found = [_preferences("sample", QUICK_MODEL[0], pairs)]
    found += [_replies("sample", way, QUICK, QUICK_MODEL[0], data) for way in ways]
    found += [_goals(way, (*GOALS[way], *QUICK_GOALS)) for way in GOALS]
    return [replace(spec, seeds=(1,), note="a few packaged examples") for spec in found]


# -- what a row keeps ----------------------------------------------------------------------------------------------


def _read_english(folder: Path) -> Row:
    return read_replies(folder, "en")


def _read_chinese(folder: Path) -> Row:
    return read_replies(folder, "zh")


def read_replies(folder: Path, language: Language) -> Row:
    """ROUGE-L of every test reply, what the sampled ones were worth, the KL, the first replies, and the way there."""
    sampled, result = read_json(folder / "sampled.json"), read_json(folder / "result.json")
    lines = (folder / "test_predictions.jsonl").read_text(encoding="utf-8").splitlines()
    greedy = [json.loads(line) for line in lines]
    against = sampled.get("against")
    if [one["reference"] for one in greedy] != sampled["references"]:
        raise RlftError(f"{folder}: sampled.json is about other replies than test_predictions.jsonl; remove the folder")
    further = read_json(folder / GREEDY_FILE) if (folder / GREEDY_FILE).exists() else None
    found: Row = {
        "scores": {
            "greedy": _scores([one["prediction"] for one in greedy], sampled["references"], language),
            "sampled": _scores(sampled["predictions"], sampled["references"], language),
        },
        "sampled": sampled["test"],
        "samples": [
            {"reference": one["reference"], "greedy": one["prediction"], "sampled": drawn}
            for one, drawn in list(zip(greedy, sampled["predictions"], strict=True))[:SHOWN]
        ],
        "signatures": sampled["signatures"],
        "way": read_way(folder / "metrics.jsonl"),
    }
    if further:  # of another choice of test replies, which holds these
        found["scores"]["further"] = _scores(further["predictions"], further["references"], language)
    if against is not None:
        found["against"] = {key: against[key] for key in ("test", "difference", "win_rate", "kl")}
        found["from_reference"] = result.get("from_reference")
    return found


def _scores(predictions: Sequence[str], references: Sequence[str], language: Language) -> list[float]:
    pairs = zip(predictions, references, strict=True)
    return [round(sentence_rouge_l(prediction, reference, language), 4) for prediction, reference in pairs]


def read_way(log: Path) -> dict[str, list[list[float]]]:
    """From metrics.jsonl: [KL, reward of a sampled training reply] by the step, and on dev [KL, sampled, greedy ROUGE-L]."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["phase"] == "main"]
    found = {
        "reward": [[row["kl"], row["episode_reward"]] for row in rows if {"kl", "episode_reward"} <= row.keys()],
        "dev": [[row["dev.kl"], row["dev.sampled_rouge_l"], row["dev.rouge_l"]] for row in rows if "dev.kl" in row],
    }
    return {name: points for name, points in found.items() if points}


def _read_goals(folder: Path) -> Row:
    return {"baselines": read_json(folder / "result.json")["baselines"]}


# -- the tables of docs/dialogue.md --------------------------------------------------------------------------------


def gains(row: Row, control: Row | None) -> dict[str, Interval]:
    """Paired differences of greedy and sampled ROUGE-L from a control on the same test replies; {} without one.

    Of several seeds the mean of each reply is taken first: the interval is over replies. Of greedy ones further replies take
    the place of those of the run where both have written them.
    """
    if control is None:
        return {}
    seeds = sorted(set(row["seeds"]) & set(control["seeds"]))
    found = {}
    both = [[_of_seed(one, seed)["scores"] for seed in seeds] for one in (row, control)]
    further = all("further" in scores for one in both for scores in one)
    for kind in ("greedy", "sampled") if seeds else ():
        kept = "further" if further and kind == "greedy" else kind
        means = [
            [sum(of_reply) / len(seeds) for of_reply in zip(*(scores[kept] for scores in one), strict=True)]
            for one in both
        ]
        found[kind] = paired_difference(*means, 1, RESAMPLES)
    return found


def _of_seed(row: Row, seed: int) -> Row:
    return next(run for run in row["runs"] if run["seed"] == seed)


def markdown(content: Mapping[str, Any]) -> str:
    """A table for each data set, from the results file alone."""
    rows: list[Row] = content["rows"]
    lines: list[str] = []
    for data_set, task in dict.fromkeys((row["data_set"], row["task"]) for row in rows):
        here = [row for row in rows if (row["data_set"], row["task"]) == (data_set, task)]
        title = NAMES.get(data_set, data_set)
        lines += {"dialogue": _reply_table, "preference": _pair_table, "goal_dialogue": _goal_table}[task](title, here)
        lines += [""]
    return "\n".join([*lines, *legend(content, rows, shares=False), "", *_signature(rows), *_all_commands(rows)])


def _reply_table(title: str, rows: Sequence[Row]) -> list[str]:
    known = {row["algorithm"]: row for row in rows}
    control = known.get("more", known.get("supervised"))
    over_what = "more supervised" if "more" in known else "the start"
    head = ("greedy ROUGE-L", "sampled ROUGE-L", *(f"{kind}, over {over_what}" for kind in ("greedy", "sampled")))
    columns = (title, *head, "KL, nats a reply", "chrF wins over the start", "used", "time")
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        seeds = f", {len(row['seeds'])} seeds" if len(row["seeds"]) > 1 else ""
        seeds += "" if row["complete"] else ", not all seeds yet"
        begun = row["algorithm"] not in ("untrained", "supervised")
        over = gains(row, control) if begun and row["algorithm"] != "more" else {}
        cells = (
            row["title"],
            f"**{_of(row)}**{seeds}",
            _of(_mean_of([run["sampled"]["rouge_l"] for run in row["runs"]])),
            *(_signed(over[kind]) if kind in over else "" for kind in ("greedy", "sampled")),
            _nats(_mean_of([run["against"]["kl"] for run in row["runs"]])) if begun else "",
            _of(_mean_of([run["against"]["win_rate"] for run in row["runs"]])) if begun else "",
            used(row),
            duration(row["seconds"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *_samples(title, rows)]


def _samples(title: str, rows: Sequence[Row]) -> list[str]:
    """The first greedy replies of the first seed, side by side."""
    shown = [row for row in rows if row["algorithm"] != "more"]
    lines = [f"<details><summary>{title}: the first test replies, greedy</summary>", "", "| | reply |", "|---|---|"]
    for n in range(3):
        samples = [(row["title"], row["runs"][0]["samples"]) for row in shown]
        samples = [(name, some) for name, some in samples if len(some) > n]
        if samples:
            lines.append(f"| reference {n + 1} | {_cell(samples[0][1][n]['reference'])} |")
        lines += [f"| {name} | {_cell(some[n]['greedy'])} |" for name, some in samples]
    return [*lines, "", "</details>"]


def _pair_table(title: str, rows: Sequence[Row]) -> list[str]:
    lines = [f"| {title} | pairs in the right order | used | time |", "|---" * 4 + "|"]
    return [
        *lines,
        *(f"| {row['title']} | **{_of(row)}** | {used(row)} | {duration(row['seconds'])} |" for row in rows),
    ]


def _goal_table(title: str, rows: Sequence[Row]) -> list[str]:
    head = f"| {title} | success | turns | success over the hand-written policy | used | time |"
    lines = [head, "|---" * 6 + "|"]
    known = rows[0]["runs"][0]["baselines"]
    for name, policy in (("random", "random"), ("hand-written", "hand_written")):
        lines.append(f"| {name} | **{_of(known[policy]['success'])}** | {_of(known[policy]['turns'])} | | | |")
    for row in rows:
        seeds = f", {len(row['seeds'])} seeds" if len(row["seeds"]) > 1 else ""
        gain = _signed(row["also"]["success_gain"])
        if not all(run["also"]["success_gain"]["low"] > 0 for run in row["runs"]):  # by the interval of each seed
            gain = gain.strip("*")
        turns = _of(row["also"]["turns"])
        lines.append(
            f"| {row['title']} | **{_of(row)}**{seeds} | {turns} | {gain} | {used(row)} | {duration(row['seconds'])} |"
        )
    return lines


def _mean_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """One interval as it is; of several runs the mean, and the range of their values."""
    values = [one["value"] for one in found]
    if len(values) == 1:
        return dict(found[0])
    return {"value": sum(values) / len(values), "low": min(values), "high": max(values)}


def _of(found: Mapping[str, Any]) -> str:
    return f"{number(found['value'])} [{number(found['low'])}, {number(found['high'])}]"


def _nats(found: Mapping[str, float]) -> str:
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _signed(found: Mapping[str, float]) -> str:
    """A difference, bold where its interval leaves out zero."""
    text = f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"**{text}**" if found["low"] > 0 or found["high"] < 0 else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _signature(rows: Sequence[Row]) -> list[str]:
    told = dict.fromkeys(
        f"{name} `{value}`"
        for row in rows
        for run in row["runs"]
        for name, value in run.get("signatures", {}).items()
        if name in ("bleu", "chrf")
    )
    return ["Signatures: " + "; ".join(told) + ".", ""] if told else []


def _all_commands(rows: Sequence[Row]) -> list[str]:
    """The commands of all runs, each with those that measured it."""
    lines = commands(rows)
    measured = {run["command"]: run.get("measured", []) for row in rows for run in row["runs"]}
    return [line for one in lines for line in (one, *measured.get(one, []))]


SCRIPT = Script(
    doc=__doc__ or "",
    about=ABOUT,
    title="dialogue table",
    name="dialogue",
    specs=tuple(specs()),
    quick=tuple(quick_specs()),
)

if __name__ == "__main__":
    sys.exit(ended(SCRIPT.main))
