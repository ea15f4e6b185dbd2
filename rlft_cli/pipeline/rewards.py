"""Rewards as objects: with the checkpoints that they judge by, checked before anything is learned from them."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from rlft_cli.episode import rollout
from rlft_cli.errors import UsageError
from rlft_cli.pipeline.build import build, plain
from rlft_cli.pipeline.setup import Setup, open_checkpoint
from rlft_cli.reward import Reward
from rlft_cli.reward.classifier import Classifier
from rlft_cli.reward.reward_model import RewardModel
from rlft_cli.reward_check import EXAMPLES, check_reward
from rlft_cli.scorers import ClassScorer, Reader, RewardModelScorer, measure, parts_of
from rlft_cli.task.classification import ClassificationTask
from rlft_cli.task.preference import PreferenceTask
from rlft_cli.training import Training


def reward_of(setup: Setup) -> Reward:
    """The configured reward of a setup, loaded once."""
    if setup.reward is None:
        setup.reward = load_reward(setup.config.reward, setup.accelerator)
    return setup.reward


def given_reward(node: DictConfig, setup: Setup) -> Reward:
    """The reward typed for a checkpoint; what it takes from data that were not given too, it takes from those of its run."""
    whole = OmegaConf.create({"reward": OmegaConf.to_container(node), "data": plain(setup.config.data)})
    try:
        return load_reward(OmegaConf.to_container(whole.reward, resolve=True), setup.accelerator)
    except InterpolationKeyError as problem:
        key = str(problem.full_key)
        raise UsageError(f"{key}: the data of the checkpoint's run do not tell it; type {key}=...") from problem


def load_reward(node: Any, accelerator: Accelerator) -> Reward:
    """The reward of a configuration node, with its checkpoints; UsageError where one is of another task or lacks the class."""
    reward: Reward = build(node)
    for key, part in parts_of(reward):
        if isinstance(part, RewardModel):
            task, reader = _reader(part.checkpoint, f"{key}.checkpoint", accelerator)
            if not isinstance(task, PreferenceTask):
                raise _other_task(key, part.checkpoint, task, "preference", "algo=reward_model")
            part.scorer.append(RewardModelScorer(reader=reader))
        elif isinstance(part, Classifier):
            task, reader = _reader(part.checkpoint, f"{key}.checkpoint", accelerator)
            if not isinstance(task, ClassificationTask):
                raise _other_task(key, part.checkpoint, task, "classification", "algo=supervised")
            if part.label not in reader.labels:
                known = ", ".join(reader.labels[:12])
                raise UsageError(f"{key}.label={part.label} is no class of {part.checkpoint}; it knows {known}")
            part.scorer.append(ClassScorer(reader=reader, number=reader.labels.index(part.label)))
    return reward


def _reader(path: str, key: str, accelerator: Accelerator) -> tuple[Any, Reader]:
    """The task of a checkpoint and what reads rows with it, in the precision of the run that asks."""
    card, config, task, policy = open_checkpoint(path, key)
    return task, Reader(
        settings=build(config.task),
        labels=card.labels,
        codec=task.codec,
        policy=policy.to(accelerator.device).requires_grad_(False),
        device=accelerator.device,
        autocast=accelerator.autocast,
    )


def _other_task(key: str, path: str, task: Any, wanted: str, algo: str) -> UsageError:
    return UsageError(
        f"{key}.checkpoint={path} is of another task ({type(task).__name__.removesuffix('Task').lower()}); expected one of "
        f"task={wanted}: train it with rlft train task={wanted} {algo}"
    )


def check_rewards(setup: Setup) -> str | None:
    """Hold the reward against its contract, for tasks of replies, before anything is learned from it; RlftError says how not.

    A warning comes back where that cannot be told. A reward model whose centre is not known yet is measured on references
    for this.
    """
    feedback, algorithm = build(setup.config.feedback), build(setup.config.algo)
    if setup.task.decisions != "tokens" or algorithm.needs != "rewards" or not feedback.reads_reward:
        return None
    reward, some = reward_of(setup), setup.ids["train"][:EXAMPLES]
    for _, part in parts_of(reward):
        if isinstance(part, RewardModel):
            measure(part, setup.task.contexts(some), setup.task.references(some))
    return check_reward(reward, setup.task, some, setup.accelerator.device, setup.config.options.reward)


def measure_rewards(setup: Setup, training: Training) -> bool:
    """Measure centre and scale of reward models, where they are not given, on replies of the policy as it is now.

    They become part of the configuration, so that a resumed run and an evaluation use the same; says whether there were any.
    """
    parts = [(key, part) for key, part in parts_of(reward_of(setup)) if isinstance(part, RewardModel)]
    parts = [(key, part) for key, part in parts if part.centre is None or part.scale is None]
    if not parts:
        return False
    most = max(part.samples for _, part in parts)
    contexts, replies = _sampled(setup, training, most)
    for key, part in parts:
        measure(part, contexts[: part.samples], replies[: part.samples])
        for name, value in part.measured.items():
            OmegaConf.update(setup.config, f"{key}.{name}", value)
    return True


@torch.no_grad()
def _sampled(setup: Setup, training: Training, count: int) -> tuple[list[Any], list[str]]:
    """Replies of the policy to ``count`` training prompts (each again where there are fewer), with their contexts."""
    train = setup.ids["train"]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(setup.config.seed)).tolist()
    ids = [train[order[n % len(order)]] for n in range(count)]
    generator = torch.Generator(device=setup.accelerator.device).manual_seed(setup.config.seed)
    policy: Any = setup.policy
    policy.eval()
    found: dict[int, str] = {}
    for places in setup.evaluator(setup.config.evaluation).batches(ids):
        some = [ids[place] for place in places]
        with setup.accelerator.autocast():
            acted = rollout(
                policy,
                setup.task,
                training.inputs(some),
                training.explore,
                samples=1,
                progress=training.done,
                generator=generator,
                values=training.algorithm.values,
            )
        found.update(zip(places, setup.task.decode(acted.action, acted.mask, some), strict=True))
    return setup.task.contexts(ids), [found[n] for n in range(count)]
