"""The only place that turns configuration into objects."""

from rlft_cli.pipeline.build import build, plain
from rlft_cli.pipeline.decoding import decode_with
from rlft_cli.pipeline.rewards import check_rewards, given_reward, load_reward, measure_rewards, reward_of
from rlft_cli.pipeline.setup import (
    Setup,
    add_rows,
    checkpoint_setup,
    corpus,
    log_for,
    new_setup,
    same_examples,
    tokenizer_mark,
)
from rlft_cli.pipeline.trainings import main_training, warm_start_training

__all__ = [
    "Setup",
    "add_rows",
    "build",
    "check_rewards",
    "checkpoint_setup",
    "corpus",
    "decode_with",
    "given_reward",
    "load_reward",
    "log_for",
    "main_training",
    "measure_rewards",
    "new_setup",
    "plain",
    "reward_of",
    "same_examples",
    "tokenizer_mark",
    "warm_start_training",
]
