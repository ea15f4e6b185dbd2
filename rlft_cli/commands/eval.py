"""rlft eval: measure a checkpoint; task, labels, model, tokenizer and windows come from it alone."""

from __future__ import annotations

from omegaconf import DictConfig

from rlft_cli import artifact, durable, pipeline
from rlft_cli.commands.train_log import show_metrics
from rlft_cli.console import Console
from rlft_cli.data import Data, Splits
from rlft_cli.data.files import Files
from rlft_cli.data.table import named
from rlft_cli.errors import RlftError
from rlft_cli.task import Row

SEED = 1  # of the bootstrap: the same intervals every time


def run(config: DictConfig, console: Console) -> None:
    """Evaluate one split and print its metrics; write them to ``output`` where it is given."""
    output = artifact.new_file("output", config.output)
    setup = pipeline.checkpoint_setup(config.checkpoint, config.hardware, SEED)
    splits = splits_of(config, setup)
    for message in dict.fromkeys(splits.messages):
        console.line(message)
    drop = config.data is not None and config.data.get("unseen_labels") == "drop"
    rows = known_rows(
        {"train": splits.train, "dev": splits.dev, "test": splits.test}[config.split].to_list(), setup, drop, console
    )
    ids = pipeline.add_rows(setup.task, rows, config.evaluation.max_examples)
    found = setup.evaluator(config.evaluation).evaluate(setup.policy, ids, pipeline.build(setup.config.reward))
    show_metrics(console, found.metrics, config.split)
    console.line(f"{len(ids)} examples in {found.seconds:.1f} s", examples=len(ids), seconds=round(found.seconds, 2))
    if output is not None:
        durable.write_json(
            output,
            {
                "checkpoint": str(config.checkpoint),
                "split": config.split,
                "examples": len(ids),
                config.split: found.metrics,
                "signatures": setup.task.signatures(),
                "versions": artifact.versions(),
            },
        )


def splits_of(config: DictConfig, setup: pipeline.Setup) -> Splits:
    """The data given, of which no other split is needed, or those of the checkpoint's run."""
    source: Data = pipeline.build(config.data if config.data is not None else setup.config.data)
    if config.data is not None:
        return (source.only(config.split) if isinstance(source, Files) else source).load(setup.task.rows)
    try:
        return source.load(setup.task.rows)
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
