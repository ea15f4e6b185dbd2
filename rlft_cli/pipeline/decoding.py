"""Decoders for checkpoints: what the scores of one mean, and rewards that may judge an answer before it is given."""

from __future__ import annotations

from omegaconf import DictConfig

from rlft_cli.decode import Aids, Decode
from rlft_cli.errors import UsageError
from rlft_cli.pipeline.build import build, plain
from rlft_cli.pipeline.rewards import given_reward, reward_of
from rlft_cli.pipeline.setup import Setup
from rlft_cli.reward import Reward
from rlft_cli.reward.reward_model import RewardModel
from rlft_cli.reward.weighted_sum import WeightedSum
from rlft_cli.scorers import parts_of
from rlft_cli.sources import read_target


def decode_with(setup: Setup, config: DictConfig, loaded: Reward | None = None) -> None:
    """Let a checkpoint answer by ``config.decode`` from now on; UsageError where it cannot.

    The reward, where the decoder reads one, is ``loaded`` or that of ``config.reward``, or else of the checkpoint's own
    run. One that reads references is refused: what is looked for would be shown.
    """
    decode: Decode = build(config.decode)
    settings, algorithm = plain(setup.config.algo), build(setup.config.algo)
    # Soft Q-learning has the scores of a policy (docs/decisions/0004).
    learned = read_target(settings["_target_"]).traits.get("regresses") is True and settings.get("backup") != "soft"
    reward, name = None, ""
    if "reward" in decode.reads:
        name = (config if config.reward is not None else setup.config).options.reward
        own = reward_of(setup) if config.reward is None and loaded is None else None
        reward = loaded or own or given_reward(config.reward, setup)
        _require_blind(reward, name)
    aids = Aids(
        values=algorithm.values if learned else None,
        gamma=float(settings.get("gamma", 0.0)),
        foresees="value" in algorithm.reads,
        reward=reward,
        reward_name=name,
    )
    decode.require(setup.task, aids)
    setup.decode, setup.aids = decode, aids


def _require_blind(reward: Reward, name: str) -> None:
    """UsageError for a reward that holds an answer against its reference, or may do so."""
    for key, part in parts_of(reward):
        if isinstance(part, WeightedSum | RewardModel) or part.contract == "alone":
            continue
        what = f"reward={name}" if key == "reward" else f"{key} of reward={name}"
        own = "; if it reads none, type reward.contract=alone" if name in ("function", "http") else ""
        raise UsageError(
            f"{what} may read the reference of an example, which must not be known while its answer is looked for{own}; choose "
            "one that judges an answer by itself (reward_model, classifier, length, distinct, repetition, function or http), or "
            "type decode.worth=policy"
        )


__all__ = ["decode_with"]
