"""What bench_training.py lets run against one another: rlft's learner, transformers' Trainer, and a bare loop.

Each contender is a process of its own (accelerate's state is shared within a process) and trains on for as many laps as
it is asked for. A lap is one pass over the same examples; between laps it waits, so that contenders alternate.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _matches import Plan
from datasets import Dataset
from omegaconf import DictConfig, OmegaConf
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
)

from rlft_cli import pipeline
from rlft_cli.config import check, config_folder
from rlft_cli.episode import demonstrate
from rlft_cli.errors import UsageError
from rlft_cli.hardware import keep_freed_memory
from rlft_cli.learner import learn
from rlft_cli.options import Library
from rlft_cli.sampler import BatchSampler
from rlft_cli.through_hydra import compose_with_hydra

GLUE_TOKENS = 128  # run_glue.py pads every text to max_seq_length, 128 by default (pad_to_max_length)


class Gate:
    """Where a contender waits for its next lap, and says what the lap took."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._start, self._cpu_start = pipe, 0.0, 0.0

    def open(self) -> None:
        """Wait to be let go; the clock runs from here."""
        self._pipe.recv()
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def close(self, examples: int, steps: int) -> None:
        """The lap is over."""
        seconds, cpu_seconds = time.perf_counter() - self._start, time.process_time() - self._cpu_start
        self._pipe.send({"seconds": seconds, "cpu_seconds": cpu_seconds, "examples": examples, "steps": steps})


def work(plan: Plan, laps: int, pipe: Connection) -> None:
    """The life of a contender's process."""
    try:
        KINDS[plan.kind](plan, laps, Gate(pipe))
    except (EOFError, BrokenPipeError):
        return  # whoever measured has gone


def settings(words: tuple[str, ...]) -> DictConfig:
    """The configuration of ``rlft train`` with these words, checked as the command line checks it."""
    library = Library([config_folder()])
    composed = compose_with_hydra(library.folders, "train", words)
    faults = check(library, "train", composed, running=True)
    if faults:
        raise UsageError("\n".join(faults))
    config = OmegaConf.create(composed.values)
    assert isinstance(config, DictConfig)
    return config


def _setup(plan: Plan, laps: int) -> pipeline.Setup:
    return pipeline.new_setup(settings((*plan.words, f"hardware.precision={plan.precision}", f"passes={laps}")))


def run_learner(plan: Plan, laps: int, gate: Gate) -> None:
    """rlft's own loop, whichever algorithm the words choose; no evaluation, no files."""
    keep_freed_memory()  # as rlft train does
    setup = _setup(plan, laps)
    training, steps, waiting = pipeline.main_training(setup), 0, True
    progress = learn(training)
    for _ in range(laps):
        gate.open()
        steps, waiting = 0, True
        while waiting:
            steps, waiting = steps + 1, not next(progress).pass_ended
        gate.close(len(setup.ids["train"]), steps)


def run_bare(plan: Plan, laps: int, gate: Gate) -> None:
    """Forward, cross-entropy, backward, clip, step on rlft's batches, which are collated before the lap begins."""
    keep_freed_memory()
    setup = _setup(plan, laps)
    policy, device, training = setup.policy, setup.accelerator.device, pipeline.main_training(setup)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=training.optim.lr, fused=True)
    policy.train()
    for _ in range(laps):
        batches = [
            (
                {name: tensor.to(device) for name, tensor in setup.task.collate(ids).items()},
                demonstrate(setup.task, {"id": torch.tensor(ids)}).to(device),
            )
            for ids in _pass(training.sampler)
        ]
        gate.open()
        for observation, known in batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
                scores = policy(observation, known.action).scores
            loss = F.cross_entropy(scores[known.mask].float(), known.action[known.mask])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), training.optim.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        gate.close(len(setup.ids["train"]), len(batches))


def _pass(sampler: BatchSampler) -> list[list[int]]:
    """The batches of the next pass."""
    batches, ended = [], False
    while not ended:
        batch, ended = sampler.next()
        batches.append(batch)
    return batches


class _Laps(TrainerCallback):
    """An epoch of the Trainer is a lap."""

    def __init__(self, gate: Gate, examples: int) -> None:
        self._gate, self._examples, self._steps = gate, examples, 0

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Wait for the others."""
        self._steps = state.global_step
        self._gate.open()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Before anything is saved or evaluated."""
        self._gate.close(self._examples, state.global_step - self._steps)


def run_trainer(plan: Plan, laps: int, gate: Gate) -> None:
    """transformers' Trainer, set up as run_ner.py and run_glue.py do, on the same examples and the same body."""
    setup = _setup(plan, laps)
    rows, labels = setup.splits["train"], setup.task.labels
    batch = plan.batch or round(len(rows) / len(_pass(pipeline.main_training(setup).sampler)))
    with tempfile.TemporaryDirectory() as scratch:
        body: Any = setup.policy.body
        body.save_pretrained(Path(scratch))
        setup.task.codec.save(Path(scratch))
        tokenizer = AutoTokenizer.from_pretrained(scratch)
        make = AutoModelForTokenClassification if plan.task == "ner" else AutoModelForSequenceClassification
        model = make.from_pretrained(scratch, num_labels=len(labels), dtype=torch.float32)
        features, collator = _features(plan, rows, labels, tokenizer)
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=laps,
            per_device_train_batch_size=batch,
            bf16=plan.precision == "bf16",
            use_cpu=setup.accelerator.device.type == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=features,
            data_collator=collator,
            processing_class=tokenizer,
            callbacks=[_Laps(gate, len(rows))],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def _features(
    plan: Plan, rows: list[dict[str, Any]], labels: list[str], tokenizer: Any
) -> tuple[Dataset, Callable[[list[Any]], Mapping[str, Any]]]:
    """Tokenised examples and their collator, as in transformers' examples."""
    number = {label: n for n, label in enumerate(labels)}
    if plan.task == "ner":  # run_ner.py: the first piece of a word bears its label; padded to the longest of a batch
        encoded = tokenizer([row["words"] for row in rows], is_split_into_words=True, truncation=True)
        tags = [[number[tag] for tag in row["tags"]] for row in rows]
        marks = [_first_pieces(encoded.word_ids(n), row) for n, row in enumerate(tags)]
        return Dataset.from_dict({**encoded, "labels": marks}), DataCollatorForTokenClassification(tokenizer)
    longest = plan.padding == "longest"
    encoded = tokenizer(
        [row["text"] for row in rows],
        padding=False if longest else "max_length",
        truncation=True,
        max_length=GLUE_TOKENS,
    )
    features = Dataset.from_dict({**encoded, "label": [number[row["label"]] for row in rows]})
    return features, DataCollatorWithPadding(tokenizer) if longest else default_data_collator


def _first_pieces(words: list[int | None], tags: list[int]) -> list[int]:
    """The label of a word at its first piece, -100 (no loss) elsewhere."""
    before: list[int | None] = [None, *words[:-1]]
    return [-100 if word is None or word == last else tags[word] for word, last in zip(words, before, strict=True)]


KINDS: dict[str, Callable[[Plan, int, Gate], None]] = {
    "learner": run_learner,
    "trainer": run_trainer,
    "bare": run_bare,
}
