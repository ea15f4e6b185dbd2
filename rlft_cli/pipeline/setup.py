"""Data, task and policy of a run, from a configuration or from a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from omegaconf import DictConfig, OmegaConf
from torch import nn
from transformers.utils import logging as transformers_logging

from rlft_cli.artifact import Card, find_checkpoint, read_card, write_card
from rlft_cli.data import Splits
from rlft_cli.data.logs import Log, read_log
from rlft_cli.data.writing import PAIRS
from rlft_cli.decode import Aids, Decode
from rlft_cli.decode.greedy import Greedy
from rlft_cli.errors import UsageError
from rlft_cli.evaluation import Evaluator
from rlft_cli.feedback.logged import Logged
from rlft_cli.model import Codec
from rlft_cli.model.head import save_heads
from rlft_cli.model.seq2seq import Seq2SeqPolicy
from rlft_cli.model.tokens import TokenPolicy
from rlft_cli.offline import require_chances
from rlft_cli.pipeline.build import build, plain
from rlft_cli.reward import Reward
from rlft_cli.task import Row, Task
from rlft_cli.tuning import Tuning

transformers_logging.disable_progress_bar()  # console.py alone says what happens
transformers_logging.set_verbosity_error()


@dataclass(kw_only=True)
class Setup:
    """A task bound to data and a policy, ready to train or to be asked."""

    config: DictConfig
    accelerator: Accelerator
    task: Task
    policy: nn.Module
    tuning: Tuning
    splits: dict[str, list[Row]]
    ids: dict[str, list[int]]  # examples by split
    messages: list[str]
    log: Log | None = None  # what another policy did, where that is all there is to learn from
    reward: Reward | None = None  # once it was asked for
    decode: Decode = field(default_factory=Greedy)  # how answers are found
    aids: Aids = field(default_factory=Aids)  # what they may be judged by meanwhile

    @property
    def rows(self) -> str:
        """The kind of rows that the run learns from: those of the task, or of preferences where pairs are compared."""
        return rows_for(self.task.rows, build(self.config.algo).reads)

    @property
    def precision(self) -> str:
        """Precision of the forward pass: bf16 or fp32."""
        return "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32"

    def card(self) -> Card:
        """What a checkpoint of this policy says of itself."""
        return Card(config=plain(self.config), labels=self.task.labels, precision=self.precision)

    def save_checkpoint(self, folder: Path) -> None:
        """Write weights, heads, tokenizer and card into an empty folder."""
        body: Any = self.tuning.merged(self.policy)
        body.save_pretrained(folder)
        save_heads(self.policy, folder)
        self.task.codec.save(folder)
        write_card(folder, self.card())

    def evaluator(self, section: DictConfig) -> Evaluator:
        """Evaluation under this setup's precision."""
        return Evaluator(
            task=self.task,
            device=self.accelerator.device,
            autocast=self.accelerator.autocast,
            batch_tokens=section.batch_tokens,
            resamples=section.bootstrap,
            seed=self.config.seed,
            decode=self.decode,
            aids=self.aids,
        )


def add_rows(task: Task, rows: Sequence[Row], most: int | None) -> list[int]:
    """Add examples to a task; at most ``most``, always the same choice."""
    ids = task.add(rows)
    if most is None or len(ids) <= most:
        return ids
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))[:most]
    return [ids[place] for place in sorted(order.tolist())]


def corpus(splits: Splits, rows: str) -> list[str]:
    """Texts of the training split, for tokenizers that are built from it."""
    if rows == "tagged_words":
        return [word for row in splits.train for word in row["words"]]
    if rows in ("labelled_text", "plain_text"):
        return [row["text"] for row in splits.train]
    if rows == "preference":
        replies = [row[key] for row in splits.train for key in ("chosen", "rejected")]
        spoken = [turn["content"] for row in splits.train for turn in row["turns"]]
        return spoken + [reply for reply in replies if reply is not None]
    if rows in PAIRS:
        return [row[side] for row in splits.train for side in ("source", "target")]
    if rows == "goals":
        return [one["value"] for row in splits.train for one in row["constraints"]]
    return [turn["content"] for row in splits.train for turn in row["turns"]]


def rows_for(kind: str, reads: frozenset[str]) -> str:
    """Rows of a task's kind, or of preferences where the algorithm reads pairs of replies."""
    return "preference" if "pairs" in reads else kind


def new_setup(config: DictConfig) -> Setup:
    """Data, codec, task and policy of a new run, from pretrained weights, ``init`` or from scratch."""
    accelerator = build(config.hardware).accelerator()
    torch.manual_seed(config.seed)
    settings, model, algorithm = build(config.task), build(config.model), build(config.algo)
    reads = algorithm.reads | frozenset(build(config.explore).reads)
    kind = rows_for(settings.rows, reads)
    splits: Splits = build(config.data).load(kind)
    if config.init is None:
        folder, labels = model.open(), settings.fit(splits.train)
    else:
        folder = find_checkpoint(config.init, "init")
        card = read_card(folder)
        labels = _same_task(card, config, settings.fit(splits.train))
    task = settings.build(labels, model.codec(folder, corpus(splits, kind)))
    feedback = build(config.feedback)
    log = log_for(task, feedback.log) if isinstance(feedback, Logged) else None
    if log is not None and "propensity" in reads:
        require_chances(log)
    tuning = build(config.tuning)
    policy = tuning.apply(model.policy(folder, task, reads))
    if tuning.adds:
        _store_low(policy, accelerator)
    rows = {"train": splits.train.to_list(), "dev": splits.dev.to_list(), "test": splits.test.to_list()}
    most = config.evaluation.max_examples
    ids = {split: add_rows(task, some, None if split == "train" else most) for split, some in rows.items()}
    if not any(weight.requires_grad for weight in policy.parameters()):
        raise UsageError("tuning leaves no weight to train; type tuning=full, or unfreeze a part of the model")
    return Setup(
        config=config,
        accelerator=accelerator,
        task=task,
        policy=policy.to(accelerator.device),
        tuning=tuning,
        splits=rows,
        ids=ids,
        messages=list(splits.messages) + ([] if log is None else [f"{log.path}: {len(log.episodes)} logged episodes"]),
        log=log,
    )


def _store_low(policy: nn.Module, accelerator: Accelerator) -> None:
    if isinstance(policy, TokenPolicy | Seq2SeqPolicy) and accelerator.mixed_precision == "bf16":
        policy.store_low(torch.bfloat16)


def _same_task(card: Card, config: DictConfig, labels: list[str]) -> list[str]:
    """Labels of the checkpoint that a run starts from; UsageError where it is of another task, model or set of labels."""
    speaks = {build(card.config["task"]).decisions, build(config.task).decisions} <= {"tokens", "pairs"}
    for group in ("task", "model"):
        theirs, ours = card.config[group], plain(config[group])
        if group == "task" and speaks:  # a language model all the same: a reward model may begin as a policy
            continue
        if theirs["_target_"] != ours["_target_"]:
            names = card.config["options"][group], config.options[group]
            raise UsageError(
                f"init={config.init} was trained with {group}={names[0]}, this run has {group}={names[1]}; "
                f"type {group}={names[0]}, or give another checkpoint"
            )
    fixed = {key: value for key, value in card.config["model"].items() if key != "dropout"}
    other = [key for key, value in fixed.items() if plain(config.model)[key] != value]
    if other:
        raise UsageError(
            f"init={config.init} was trained with another model; to start from it, type "
            + " ".join(f"model.{key}={_typed(fixed[key])}" for key in other)
        )
    if speaks:
        return labels
    new = sorted(set(labels) - set(card.labels))
    if new:
        raise UsageError(
            f"init={config.init} does not know the labels {', '.join(new[:5])} of this training data; "
            f"it knows {', '.join(card.labels[:12])}: train it on data with the same labels"
        )
    return card.labels


def _typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    return json.dumps(value, separators=(",", ":")).replace('"', "")


def checkpoint_setup(path: str, hardware: Any, seed: int) -> Setup:
    """Task and policy from a checkpoint alone (law 4); its precision is kept wherever the hardware has it."""
    card, config, task, policy = open_checkpoint(path, "checkpoint")
    config.seed = seed
    setting = plain(hardware)
    if setting["precision"] == "auto":
        setting["precision"] = "bf16" if card.precision == "bf16" else "fp32"
    accelerator = build(setting).accelerator()
    if build(card.config["tuning"]).adds:
        _store_low(policy.requires_grad_(False), accelerator)  # held as the weights were that they were merged with
    return Setup(
        config=config,
        accelerator=accelerator,
        task=task,
        policy=policy.to(accelerator.device),
        tuning=build({"_target_": "rlft_cli.tuning.full.Full"}),
        splits={},
        ids={},
        messages=[],
    )


def open_checkpoint(path: str, key: str) -> tuple[Card, DictConfig, Task, nn.Module]:
    """Card, configuration, task and policy of the checkpoint that ``key=path`` names."""
    folder = find_checkpoint(path, key)
    card = read_card(folder)
    config = OmegaConf.create(card.config)
    assert isinstance(config, DictConfig)
    settings, model = build(config.task), build(config.model)
    task: Task = settings.build(card.labels, model.codec(folder, []))
    policy: nn.Module = model.policy(folder, task, build(config.algo).reads)
    return card, config, task, policy


def same_examples(trained: Setup, saved: Setup, split: str) -> list[int]:
    """Give a checkpoint's task the examples that a run evaluates on."""
    return add_rows(saved.task, trained.splits[split], trained.config.evaluation.max_examples)


def tokenizer_mark(codec: Codec) -> str:
    """A few letters that tell one tokenizer from another: a digest of how it cuts a line."""
    line = "The quick brown fox, 0123456789: Ångström, žluť, 你好, δ!"
    marks = [codec.pad_id, codec.unk_id, codec.eos_id, *codec.text_ids([line])[0]]
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()[:12]


def log_for(task: Task, path: str) -> Log:
    """Read a log of episodes of this task; RlftError names file and line of every fault."""
    mark = None if task.labels else tokenizer_mark(task.codec)
    return read_log(Path(path).expanduser(), task.rows, task.labels, mark)
