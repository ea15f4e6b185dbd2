"""rlft eval: measure a checkpoint; task, labels, model, tokenizer and windows come from it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rlft_cli import artifact, pipeline
from rlft_cli.commands.train import show_metrics
from rlft_cli.console import Console
from rlft_cli.data import Splits
from rlft_cli.errors import UsageError

SEED = 1  # of the bootstrap: the same intervals every time


def run(config: DictConfig, console: Console) -> None:
    """Evaluate one split and print its metrics; write them to ``output`` where it is given."""
    if config.output is not None and Path(config.output).exists():
        raise UsageError(f"output={config.output} exists and is not overwritten; give another name")
    setup = pipeline.checkpoint_setup(config.checkpoint, config.hardware, SEED)
    splits = _splits(config, setup)
    for message in splits.messages:
        console.line(message)
    rows = {"train": splits.train, "dev": splits.dev, "test": splits.test}[config.split].to_list()
    ids = pipeline.add_rows(setup.task, rows, config.evaluation.max_examples)
    found = setup.evaluator(config.evaluation).evaluate(setup.policy, ids, pipeline.build(setup.config.reward))
    show_metrics(console, found.metrics, config.split)
    console.line(f"{len(ids)} examples in {found.seconds:.1f} s")
    if config.output is not None:
        artifact.write_json(
            Path(config.output),
            {"checkpoint": str(config.checkpoint), "split": config.split, "examples": len(ids),
             config.split: found.metrics, "signatures": setup.task.signatures(), "versions": artifact.versions()},
        )


def _splits(config: DictConfig, setup: pipeline.Setup) -> Splits:
    """The data given, or those of the checkpoint's run."""
    node: dict[str, Any] = pipeline.plain(config.data if config.data is not None else setup.config.data)
    if node.get("dir", "") is None and node.get("train") is None and node.get(config.split) is not None:
        node["train"] = node[config.split]  # one file is enough to evaluate on
        node["test"] = node.get("test") or node[config.split]
    splits: Splits = pipeline.build(node).load(setup.task.rows)
    return splits
