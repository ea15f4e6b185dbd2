"""rlft eval: measure a checkpoint; task, labels, model, tokenizer and windows come from it alone."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from rlft_cli import artifact, durable, pipeline
from rlft_cli.commands.train_log import show_metrics
from rlft_cli.console import Console
from rlft_cli.data import Data, Splits
from rlft_cli.data.files import Files
from rlft_cli.data.table import named
from rlft_cli.decode.sample import Sample
from rlft_cli.errors import RewardFailure, RlftError, UsageError
from rlft_cli.evaluation import Comparison, Evaluation, compare
from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.reward import Reward
from rlft_cli.task import Row

SEED = 1  # of the bootstrap: the same intervals every time
SHOWN = 5  # replies that are printed beside those of the other checkpoint


def run(config: DictConfig, console: Console) -> None:
    """Evaluate one split and print its metrics, beside another checkpoint's; write them to ``output`` where it is given."""
    output = artifact.new_file("output", config.output)
    setup = pipeline.checkpoint_setup(config.checkpoint, config.hardware, SEED)
    other = None if config.against is None else rival(config.against, setup, config.hardware)
    reward = reward_for(config, setup, console)
    for one in (setup, other) if other is not None else (setup,):
        pipeline.decode_with(one, config, reward)
    splits = splits_of(config, setup)
    for message in dict.fromkeys(splits.messages):
        console.line(message)
    drop = config.data is not None and config.data.get("unseen_labels") == "drop"
    rows = {"train": splits.train, "dev": splits.dev, "test": splits.test}[config.split].to_list()
    for one in (setup, other) if other is not None else (setup,):
        rows = known_rows(rows, one, drop, console)
    try:
        found = judge(setup, rows, reward, config.evaluation)
    except RewardFailure as problem:
        if config.reward is not None:
            raise
        console.warn(f"without the reward that it was trained with: {problem}")
        reward = None
        found = judge(setup, rows, None, config.evaluation)
    examples = len(found.predictions)
    show_metrics(console, found.metrics, config.split)
    content = {
        "checkpoint": str(config.checkpoint),
        "split": config.split,
        "decode": str(config.options.decode),
        "decode_settings": pipeline.plain(config.decode),
        "examples": examples,
        config.split: found.metrics,
        "signatures": setup.task.signatures(),
        "versions": artifact.versions(),
    }
    seconds = found.seconds
    if other is not None:
        theirs = judge(other, rows, reward, config.evaluation)
        seconds += theirs.seconds
        kl = kl_between(setup, other, found, config.evaluation)
        content["against"] = beside(config, console, setup, found, theirs, kl)
    console.line(f"{examples} examples in {seconds:.1f} s", examples=examples, seconds=round(seconds, 2))
    content |= {"predictions": found.predictions, "references": found.references}
    if output is not None:
        durable.write_json(output, content)


def beside(
    config: DictConfig,
    console: Console,
    setup: pipeline.Setup,
    found: Evaluation,
    theirs: Evaluation,
    kl: Interval | None,
) -> dict[str, Any]:
    """Print what the checkpoint has before another, and of texts the first ones of both; returns what the output holds."""
    gaps = compare(setup.task, found, theirs, SEED, config.evaluation.bootstrap)
    show_comparison(console, found, theirs, gaps, kl, config.against)
    if setup.task.decisions == "tokens":
        texts = zip(theirs.predictions, found.predictions, found.references, strict=True)
        console.table("the first replies", ("against", "checkpoint", "reference"), list(texts)[:SHOWN])
    return {
        "checkpoint": str(config.against),
        config.split: theirs.metrics,
        "difference": gaps.difference,
        "win_rate": gaps.win_rate,
        "kl": kl,
        "predictions": theirs.predictions,
    }


def rival(path: str, setup: pipeline.Setup, hardware: DictConfig) -> pipeline.Setup:
    """The setup of another checkpoint; UsageError where it is not of the same task."""
    other = pipeline.checkpoint_setup(str(artifact.find_checkpoint(path, "against")), hardware, SEED)
    mine, theirs = (str(one.config.task["_target_"]) for one in (setup, other))
    if mine != theirs:
        tasks = [one.config.options.task for one in (setup, other)]
        raise UsageError(
            f"against={path} is of task={tasks[1]}, the checkpoint of task={tasks[0]}; give one of the same task"
        )
    return other


def reward_for(config: DictConfig, setup: pipeline.Setup, console: Console) -> Reward | None:
    """The reward given, or that of the checkpoint's run where it can be had: what it judges by may be out of reach (law 4).

    UsageError for a given one that is for other decisions.
    """
    if config.reward is None:
        try:
            return pipeline.reward_of(setup)
        except (RewardFailure, UsageError) as problem:
            console.warn(f"without the reward that it was trained with: {problem}")
            return None
    reward = pipeline.given_reward(config.reward, setup)
    if setup.task.decisions not in reward.decisions:
        raise UsageError(
            f"the reward judges {' and '.join(reward.decisions)}, the checkpoint decides {setup.task.decisions}; "
            "choose another reward=, or leave it out for that of the checkpoint's run"
        )
    return reward


def judge(setup: pipeline.Setup, rows: list[Row], reward: Reward | None, settings: DictConfig) -> Evaluation:
    """Evaluate a checkpoint on rows; of drawn replies without the likelihood of the references, which is none of theirs."""
    ids = pipeline.add_rows(setup.task, rows, settings.max_examples)
    told = not isinstance(setup.decode, Sample) or setup.task.primary == "log_likelihood"
    return setup.evaluator(settings).evaluate(setup.policy, ids, reward, likelihood=told)


def kl_between(
    setup: pipeline.Setup, other: pipeline.Setup, found: Evaluation, settings: DictConfig
) -> Interval | None:
    """KL from another policy over the same tokens in nats a reply, on replies that were drawn; None where it is none."""
    drawn = isinstance(setup.decode, Sample) and setup.decode.draws_from_policy
    if setup.task.decisions != "tokens" or not drawn:
        return None
    if pipeline.tokenizer_mark(setup.task.codec) != pipeline.tokenizer_mark(other.task.codec):
        return None
    return setup.evaluator(settings).divergence(setup.policy, other.policy, found.ids, found.actions)


def show_comparison(
    console: Console, ours: Evaluation, theirs: Evaluation, gaps: Comparison, kl: Interval | None, against: str
) -> None:
    """Print what one checkpoint has before another; single labels are left to the file."""
    rows = [
        (name, ours.metrics[name]["value"], theirs.metrics[name]["value"], gap["value"], gap["low"], gap["high"])
        for name, gap in gaps.difference.items()
        if "." not in name
    ]
    columns = ("metric", "checkpoint", "against", "difference", "low", "high")
    console.table(f"against {against} (paired 95 % bootstrap intervals)", columns, rows)
    if (wins := gaps.win_rate) is not None:
        console.line(
            f"win rate by reward {wins['value']:.3f} [{wins['low']:.3f}, {wins['high']:.3f}]; 0.5 is no difference",
            win_rate=wins["value"],
            low=wins["low"],
            high=wins["high"],
        )
    if kl is not None:
        text = f"KL from it {kl['value']:.3f} [{kl['low']:.3f}, {kl['high']:.3f}] nats a reply"
        console.line(text, kl=kl["value"], low=kl["low"], high=kl["high"])


def splits_of(config: DictConfig, setup: pipeline.Setup) -> Splits:
    """The data given, of which no other split is needed, or those of the checkpoint's run."""
    source: Data = pipeline.build(config.data if config.data is not None else setup.config.data)
    if config.data is not None:
        return (source.only(config.split) if isinstance(source, Files) else source).load(setup.task.rows)
    try:
        return source.load(setup.rows)
    except RlftError as problem:
        raise RlftError(
            f"the data that the checkpoint was trained with cannot be read from here: {problem}. "
            f"Give data to evaluate on: data=files data.{config.split}=FILE"
        ) from problem


def known_rows(rows: list[Row], setup: pipeline.Setup, drop: bool, console: Console) -> list[Row]:
    """Rows whose labels the checkpoint knows; RlftError names the first one of another label, unless they are dropped."""
    known, decides = set(setup.task.labels), setup.task.decisions
    kept: list[Row] = []
    for row in rows:
        answers = row["tags"] if decides == "tags" else [row["label"]] if decides == "classes" else []
        strange = next((answer for answer in answers if answer not in known), None)
        if strange is None:
            kept.append(row)
        elif not drop:
            raise RlftError(
                f"{row['origin']}: the label {strange} is not among those of the checkpoint ({named(setup.task.labels)}); "
                "correct it, or data.unseen_labels=drop leaves such examples out"
            )
    if len(kept) < len(rows):
        console.warn(
            f"{len(rows) - len(kept)} of {len(rows)} examples left out: the checkpoint does not know their labels"
        )
    return kept
