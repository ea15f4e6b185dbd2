"""rlft simulate-logs: let a checkpoint act on labelled examples, and write what it did, how likely, and what it earned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from rlft_cli import artifact, durable, pipeline
from rlft_cli.commands.eval import known_rows, splits_of
from rlft_cli.console import Console
from rlft_cli.data.logs import WIDEST, LoggedEpisode, LogHeader, episode_line, header_line
from rlft_cli.episode import Trajectory, rollout
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.reward import Batch
from rlft_cli.task import Row, Task


@dataclass(frozen=True, kw_only=True)
class Actor:
    """The logging policy, and what judges it."""

    setup: pipeline.Setup
    explore: Any
    reward: Any
    values: Callable[[Tensor], Tensor]
    generator: torch.Generator
    samples: int


def run(config: DictConfig, console: Console) -> None:
    """Write one log; the labels of the examples are read by the reward alone and do not go into it."""
    output = artifact.new_file("output", config.output)
    assert output is not None  # it must be given
    setup = pipeline.checkpoint_setup(config.checkpoint, config.hardware, config.seed)
    if setup.task.decisions == "pairs":
        raise UsageError(
            f"checkpoint={config.checkpoint} judges comparisons (task=preference), of which there are no logs; give one of "
            "task=ner, task=classification or task=dialogue"
        )
    if setup.task.decisions == "acts":
        raise UsageError(
            "logs hold what was done in answer to a text, and task=goal_dialogue reads none; give a checkpoint of another task"
        )
    splits = splits_of(config, setup)
    for message in dict.fromkeys(splits.messages):
        console.line(message)
    drop = config.data is not None and config.data.get("unseen_labels") == "drop"
    of_split = {"train": splits.train, "dev": splits.dev, "test": splits.test}[config.split]
    rows = known_rows(of_split.to_list(), setup, drop, console)[: config.evaluation.max_examples]
    asked, ids = _episodes(setup.task, rows)
    if not ids:
        raise RlftError(f"there are no examples in the split {config.split}; give one that is not empty")
    device, explore = setup.accelerator.device, pipeline.build(config.explore)
    if explore.reads:
        raise UsageError(
            f"this exploration needs a policy that was built for it ({', '.join(explore.reads)}), which a checkpoint is not; "
            "choose another: explore=epsilon_greedy, explore=sample"
        )
    actor = Actor(
        setup=setup,
        explore=explore,
        reward=pipeline.reward_of(setup) if config.reward is None else pipeline.given_reward(config.reward, setup),
        values=pipeline.build(setup.config.algo).values,
        generator=torch.Generator(device=device).manual_seed(config.seed),
        samples=config.episodes_per_example,
    )
    batches = setup.evaluator(config.evaluation).batches(ids)
    found = {place: log for places in batches for place, log in _act(actor, places, asked, ids)}
    episodes = [episode for place in range(len(ids)) for episode in found[place]]
    header = _header(config, setup, episodes, explore.propensities)
    lines = [header_line(header), *(episode_line(header, episode) for episode in episodes)]
    durable.write_text(output, "".join(line + "\n" for line in lines))
    if header.deterministic:
        console.warn(
            "this exploration has no propensities: its log is marked deterministic, and rlft ope will refuse it"
        )
    console.line(f"{len(episodes)} episodes written to {output}", episodes=len(episodes), output=str(output))


def _episodes(task: Task, rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """The examples as a log shows them, one for each episode, and their ids; of a dialogue, the turns before each reply."""
    if task.rows == "plain_text":
        raise UsageError(
            "the blocks of language modelling begin within a text, which a log cannot show again token by token; "
            "give a checkpoint of another task"
        )
    if task.rows != "dialogue":
        return list(rows), task.add(rows)
    asked, ids = [], []
    for row in rows:
        for n, turn in enumerate(row["turns"]):
            if n and turn["role"] == "assistant":
                ids.append(task.add([{**row, "turns": row["turns"][: n + 1]}])[-1])
                asked.append({**row, "turns": row["turns"][:n]})
    return asked, ids


@torch.no_grad()
def _act(actor: Actor, places: Sequence[int], rows: list[Row], ids: list[int]) -> list[tuple[int, list[LoggedEpisode]]]:
    """Episodes on the examples at ``places`` of rows and ids."""
    setup, task = actor.setup, actor.setup.task
    setup.policy.eval()
    policy: Any = setup.policy
    some = [ids[place] for place in places]
    observation = {name: tensor.to(setup.accelerator.device) for name, tensor in task.collate(some).items()}
    with setup.accelerator.autocast():
        done = rollout(
            policy,
            task,
            observation,
            actor.explore,
            samples=actor.samples,
            progress=0.0,
            generator=actor.generator,
            values=actor.values,
        )
    repeated = [i for i in some for _ in range(actor.samples)]
    batch = Batch(
        references=task.references(repeated),
        predictions=task.decode(done.action, done.mask, repeated),
        labels=task.labels,
        contexts=task.contexts(repeated),
    )
    earned = actor.reward(done.action, done.mask, batch)
    episode = partial(_episode, done, earned)
    return [
        (place, [episode(n * actor.samples + k, rows[place]) for k in range(actor.samples)])
        for n, place in enumerate(places)
    ]


def _episode(done: Trajectory, earned: Tensor, n: int, row: Row) -> LoggedEpisode:
    here = done.mask[n]
    return LoggedEpisode(
        row=row,
        action=done.action[n][here].tolist(),
        reward=earned[n][here].tolist(),
        propensity=done.log_prob[n][here].double().exp().clamp(max=1.0).tolist(),
    )


def _header(
    config: DictConfig, setup: pipeline.Setup, episodes: Sequence[LoggedEpisode], propensities: bool
) -> LogHeader:
    rewards = [reward for episode in episodes for reward in episode.reward if reward is not None]
    task = setup.task
    return LogHeader(
        rows=task.rows,
        labels=task.labels,
        reward_range=(min(WIDEST[0], *rewards), max(WIDEST[1], *rewards)),
        deterministic=not propensities or all(p == 1.0 for episode in episodes for p in episode.propensity),
        tokenizer=None if task.labels else pipeline.tokenizer_mark(task.codec),
        origin={
            "checkpoint": str(config.checkpoint),
            "explore": pipeline.plain(config.explore),
            "reward": pipeline.plain(config.reward if config.reward is not None else setup.config.reward),
            "split": config.split,
            "seed": config.seed,
        },
    )
