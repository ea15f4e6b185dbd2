"""The trainings of a run: the main one, and the supervised one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from rlft_cli.errors import UsageError
from rlft_cli.offline import decisions_of
from rlft_cli.pipeline.build import build, plain
from rlft_cli.pipeline.rewards import reward_of
from rlft_cli.pipeline.setup import Setup
from rlft_cli.sampler import BatchSampler
from rlft_cli.search import Settings
from rlft_cli.snapshot import TargetNetwork
from rlft_cli.task.replies import ReplyTask
from rlft_cli.training import Optim, Training


def _optim_of(section: DictConfig) -> Optim:
    """The ``optim`` section as settings of the learner."""
    return Optim(**plain(section))


def _sampler(setup: Setup, optim: Optim, ids: list[int], seed: int) -> BatchSampler:
    return BatchSampler(
        ids, setup.task.cost(ids), batch_tokens=optim.batch_tokens, most=optim.max_batch_episodes, seed=seed
    )


def main_training(setup: Setup) -> Training:
    """The training that the configuration describes."""
    config, algorithm = setup.config, build(setup.config.algo)
    ids, log = setup.ids["train"], None
    if setup.log is not None:
        ids = setup.task.ask([episode.row for episode in setup.log.episodes])
        log = dict(zip(ids, map(decisions_of, setup.log.episodes), strict=True))
    training = Training(
        policy=setup.policy,
        task=setup.task,
        algorithm=algorithm,
        reward=reward_of(setup),
        feedback=build(config.feedback),
        explore=build(config.explore),
        memory=build(config.memory),
        sampler=_sampler(setup, _optim_of(config.optim), ids, config.seed),
        pairs=_pairs(setup) if "pairs" in algorithm.reads else None,
        search=search_of(algorithm) if "search" in algorithm.reads else None,
        log=log,
        labelled=_mixed_in(setup),
        label_coefficient=config.warm_start.mix_coefficient,
        optim=_optim_of(config.optim),
        passes=config.passes,
        accelerator=setup.accelerator,
        seed=config.seed,
    )
    if algorithm.uses_target:
        training.target = TargetNetwork(
            setup.policy,
            kind=config.algo.target,
            which=config.algo.target_weights,
            tau=config.algo.target_tau,
            interval=config.algo.target_update_interval,
        )
    return training


def search_of(algorithm: Any) -> Settings:
    """How an algorithm that reads "search" wants answers searched."""
    return Settings(
        simulations=algorithm.simulations,
        exploration=algorithm.exploration,
        temperature=algorithm.temperature,
        width=algorithm.width,
        noise=algorithm.noise,
    )


def _pairs(setup: Setup) -> Callable[[Sequence[int]], tuple[Tensor, Tensor]]:
    """Where the two replies to each prompt come from; UsageError for a task that has no such pairs."""
    if not isinstance(setup.task, ReplyTask) or setup.task.rows != "dialogue":
        raise UsageError(
            f"algo={setup.config.options.algo} learns from pairs of replies, which task={setup.config.options.task} does "
            "not have; type task=dialogue"
        )
    return setup.task.preferred


def _labelled(setup: Setup) -> list[int]:
    """The part of the training examples whose labels are used; always the same for a seed."""
    train = setup.ids["train"]
    count = max(1, round(setup.config.warm_start.fraction * len(train)))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(setup.config.seed))[:count]
    return [train[place] for place in order.tolist()]


def _mixed_in(setup: Setup) -> BatchSampler | None:
    """Batches of the labelled examples for the mixed objective; None where it is off."""
    config = setup.config
    if config.warm_start.mix_coefficient == 0:
        return None
    return _sampler(setup, _optim_of(config.optim), _labelled(setup), config.seed + 2)


def warm_start_training(setup: Setup) -> Training:
    """Supervised training on the labelled part of the training examples, before the main one."""
    config, warm = setup.config, setup.config.warm_start
    optim = plain(config.optim) | {
        "lr": warm.lr,
        "head_lr": warm.head_lr,
        "max_batch_episodes": warm.max_batch_episodes,
    }
    return Training(
        policy=setup.policy,
        task=setup.task,
        algorithm=build({"_target_": "rlft_cli.algo.supervised.Supervised", "label_smoothing": 0.0}),
        reward=reward_of(setup),
        feedback=build({"_target_": "rlft_cli.feedback.full.Full"}),
        explore=build({"_target_": "rlft_cli.explore.greedy.Greedy", "split_ties": False}),
        memory=build({"_target_": "rlft_cli.memory.latest.Latest"}),
        sampler=_sampler(setup, Optim(**optim), _labelled(setup), config.seed + 1),
        optim=Optim(**optim),
        passes=warm.passes,
        accelerator=setup.accelerator,
        seed=config.seed + 1,
    )
