"""The typed root configs of all verbs: what each of them reads, with types and ranges. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from rlft_cli.sources import ClassSource, read_class

ConsoleMode = Literal["auto", "rich", "plain", "json"]


class Component(Protocol):
    """What an option of a group configures: a mapping whose ``_target_`` names a dataclass."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimiser, its schedule and the size of a batch."""

    lr: Annotated[float, "[0, inf)"]
    head_lr: Annotated[float, "[0, inf)"]
    weight_decay: Annotated[float, "[0, inf)"]
    warmup_fraction: Annotated[float, "[0, 1]"]
    schedule: Literal["linear", "cosine", "constant"]
    max_grad_norm: Annotated[float, "(0, inf)"]
    batch_tokens: Annotated[int, "[1, inf)"]
    max_batch_episodes: Annotated[int, "[1, inf)"]
    micro_batches: Annotated[int, "[1, inf)"]


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Supervised training on a part of the labels before learning from rewards, and, mixed in, while doing so."""

    fraction: Annotated[float, "[0, 1]"]
    passes: Annotated[float, "(0, inf)"]
    lr: Annotated[float, "[0, inf)"]
    head_lr: Annotated[float, "[0, inf)"]
    max_batch_episodes: Annotated[int, "[1, inf)"]
    mix_coefficient: Annotated[float, "[0, inf)"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which checkpoint is kept as the best, and when to stop."""

    by: Literal["dev_metric", "dev_reward", "last"]
    patience: Annotated[int, "[0, inf)"]
    every_passes: Annotated[float, "(0, inf)"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How much is evaluated at once, and how sure the intervals are."""

    batch_tokens: Annotated[int, "[1, inf)"]
    max_examples: Annotated[int | None, "[1, inf)"]
    bootstrap: Annotated[int, "[1, inf)"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that ``rlft train`` reads."""

    task: Component
    data: Component
    model: Component
    tuning: Component
    algo: Component
    reward: Component
    feedback: Component
    explore: Component
    memory: Component
    hardware: Component
    seed: Annotated[int, "[0, 4294967295]"]
    runs: str
    run_dir: str | None
    resume: str | None
    init: str | None
    console: ConsoleMode
    debug: bool
    passes: Annotated[float, "[0, inf)"]
    optim: Optim
    warm_start: WarmStart
    selection: Selection
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Everything that ``rlft eval`` reads; task, model and tokenizer come from the checkpoint."""

    checkpoint: str
    against: str | None
    split: Literal["train", "dev", "test"]
    data: Component | None
    reward: Component | None
    decode: Component
    output: str | None
    hardware: Component
    console: ConsoleMode
    debug: bool
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Everything that ``rlft predict`` reads."""

    checkpoint: str
    decode: Component
    reward: Component | None
    text: str | None
    input: str | None
    output: str | None
    format: Literal["auto", "jsonl", "conll", "text"]
    hardware: Component
    console: ConsoleMode
    debug: bool
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """Everything that ``rlft chat`` reads; task, model and tokenizer come from the checkpoint."""

    checkpoint: str
    temperature: Annotated[float, "[0, inf)"]
    top_k: Annotated[int, "[0, inf)"]
    top_p: Annotated[float, "(0, 1]"]
    max_reply_tokens: Annotated[int | None, "[1, inf)"]
    reward: Component | None
    seed: Annotated[int, "[0, 4294967295]"]
    hardware: Component
    console: ConsoleMode
    debug: bool


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What a stage must show on held-out data."""

    metric: str
    over: str | None
    by: Literal["interval", "value"]
    more_than: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One ``rlft train`` of a pipeline."""

    words: list[str]
    takes: list[str]
    gain: Gain | None


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Everything that ``rlft pipeline`` reads; its stages read what ``rlft train`` does."""

    stages: dict[str, Stage]
    more: list[str]
    split: Literal["dev", "test"]
    runs: str
    run_dir: str | None
    resume: str | None
    console: ConsoleMode
    debug: bool


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Everything that ``rlft data`` reads; the model tells what will be windowed, the last six come with the task."""

    data: Component
    task: Component
    model: Component
    tuning: Component
    reward: Component
    feedback: Component
    explore: Component
    memory: Component
    algo: Component
    console: ConsoleMode
    debug: bool


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Everything that ``rlft models`` reads."""

    fetch: str | None
    cache: str | None
    console: ConsoleMode
    debug: bool


@dataclass(frozen=True, kw_only=True)
class SimulateLogsConfig:
    """Everything that ``rlft simulate-logs`` reads; task, model and tokenizer come from the checkpoint."""

    checkpoint: str
    output: str
    split: Literal["train", "dev", "test"]
    data: Component | None
    reward: Component | None
    explore: Component
    episodes_per_example: Annotated[int, "[1, inf)"]
    seed: Annotated[int, "[0, 4294967295]"]
    hardware: Component
    console: ConsoleMode
    debug: bool
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class OpeConfig:
    """Everything that ``rlft ope`` reads; the policy is a checkpoint, the examples are those of the log."""

    log: str
    policy: str
    temperature: Annotated[float, "[0, inf)"]
    weights: Literal["auto", "decision", "episode"]
    clip: Annotated[float, "(0, inf)"]
    ridge: Annotated[float, "(0, inf)"]
    seed: Annotated[int, "[0, 4294967295]"]
    output: str | None
    hardware: Component
    console: ConsoleMode
    debug: bool
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Everything that ``rlft verify`` reads; the last three groups come with the algorithm."""

    algo: Component | None
    only: str | None
    feedback: Component
    memory: Component
    explore: Component
    console: ConsoleMode
    debug: bool


ROOTS = {
    "train": "TrainConfig",
    "eval": "EvalConfig",
    "predict": "PredictConfig",
    "chat": "ChatConfig",
    "pipeline": "PipelineConfig",
    "data": "DataConfig",
    "models": "ModelsConfig",
    "simulate-logs": "SimulateLogsConfig",
    "ope": "OpeConfig",
    "verify": "VerifyConfig",
}
# Groups that only come with others: what they lack is not asked for.
NOT_READ = {
    "verify": ("feedback", "memory", "explore"),
    "data": ("tuning", "reward", "feedback", "explore", "memory", "algo"),
}


def root_class(verb: str) -> ClassSource:
    """Fields of a verb's root config, read from this file as those of components are from theirs."""
    return read_class(Path(__file__), ROOTS[verb])
