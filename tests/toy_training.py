"""Small problems with the real components around them, for the tests of the core."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from rlft_cli.algo.c51 import C51
from rlft_cli.algo.doubly_robust import DoublyRobust
from rlft_cli.algo.dqn import Dqn
from rlft_cli.algo.dqnimb import Dqnimb
from rlft_cli.algo.expert_iteration import ExpertIteration
from rlft_cli.algo.filtered_bc import FilteredBc
from rlft_cli.algo.grpo import Grpo
from rlft_cli.algo.ilql import Ilql
from rlft_cli.algo.ips import Ips
from rlft_cli.algo.ppo import Ppo
from rlft_cli.algo.quantile import Quantile
from rlft_cli.algo.reinforce import Reinforce
from rlft_cli.algo.supervised import Supervised
from rlft_cli.compose import compose
from rlft_cli.config import check, config_folder, is_text_key
from rlft_cli.explore.greedy import Greedy
from rlft_cli.feedback.bandit import Bandit
from rlft_cli.feedback.full import Full
from rlft_cli.memory.latest import Latest
from rlft_cli.model import Output
from rlft_cli.model.lstm import Lstm
from rlft_cli.model.tiny import Tiny
from rlft_cli.options import Library
from rlft_cli.overrides import parse
from rlft_cli.pipeline.trainings import search_of
from rlft_cli.reward.accuracy import Accuracy
from rlft_cli.reward.token_accuracy import TokenAccuracy
from rlft_cli.sampler import BatchSampler
from rlft_cli.snapshot import TargetNetwork
from rlft_cli.task import Row
from rlft_cli.task.classification import Classification
from rlft_cli.task.dialogue import Dialogue
from rlft_cli.task.ner import Ner
from rlft_cli.through_hydra import compose_with_hydra
from rlft_cli.training import Optim, Training

TAGS = {
    "Anna": "B-PER",
    "Smith": "I-PER",
    "Omar": "B-PER",
    "Rome": "B-LOC",
    "Cork": "B-LOC",
    "sees": "O",
    "the": "O",
    "in": "O",
    "walks": "O",
}
LABELS = {
    "joy": "glad happy fine",
    "fear": "afraid scared dread",
    "rage": "angry cross mad",
    "calm": "quiet still slow",
    "love": "dear sweet kiss",
    "grief": "sad weep loss",
    "hope": "may soon wish",
    "pride": "best won top",
}


# -- rows ----------------------------------------------------------------------------------------------------------


def tagged_rows(count: int, seed: int = 0, longest: int = 9) -> list[Row]:
    """Sentences of 1 to ``longest`` words in which every word has one tag; Smith follows Anna or Omar only."""
    chance = random.Random(seed)
    rows = []
    for n in range(count):
        words: list[str] = []
        for _ in range(chance.randint(1, longest)):
            named = bool(words) and words[-1] in ("Anna", "Omar")
            words.append(chance.choice([word for word in TAGS if word != "Smith" or named]))
        rows.append({"words": words, "tags": [TAGS[word] for word in words], "origin": f"toy:{n + 1}"})
    return rows


def class_rows(count: int, seed: int = 0) -> list[Row]:
    """Texts of 1 to 10 words, all of one label's vocabulary."""
    chance = random.Random(seed)
    rows = []
    for n in range(count):
        label = chance.choice(list(LABELS))
        words = [chance.choice(LABELS[label].split()) for _ in range(chance.randint(1, 10))]
        rows.append({"text": " ".join(words), "label": label, "origin": f"toy:{n + 1}"})
    return rows


def dialogue_rows(count: int, seed: int = 0) -> list[Row]:
    """One question and its answer."""
    chance = random.Random(seed)
    rows = []
    for n in range(count):
        words = chance.choices(list(TAGS), k=chance.randint(1, 5))
        turns = [{"role": "user", "content": " ".join(words)}, {"role": "assistant", "content": " ".join(words[::-1])}]
        rows.append({"turns": turns, "origin": f"toy:{n + 1}"})
    return rows


# -- models and tasks ----------------------------------------------------------------------------------------------


def tiny(dropout: float = 0.0, width: int = 16, max_tokens: int = 64) -> Tiny:
    return Tiny(
        width=width, layers=1, heads=2, max_tokens=max_tokens, max_vocabulary=200, head_width=16, dropout=dropout
    )


def lstm(dropout: float = 0.0) -> Lstm:
    return Lstm(
        embedding_width=8,
        hidden_width=12,
        layers=1,
        bidirectional=True,
        dropout=dropout,
        head_width=16,
        pooling="mean",
        max_vocabulary=200,
        min_count=1,
        lowercase=False,
        max_tokens=64,
    )


def corpus(rows: Sequence[Row]) -> Iterable[str]:
    for row in rows:
        if "words" in row:
            yield from row["words"]
        elif "text" in row:
            yield row["text"]
        else:
            yield from (turn["content"] for turn in row["turns"])


def bind(rows: Sequence[Row], model: Any, window: int = 64, labels: list[str] | None = None) -> Any:
    """The task of the rows' kind with the rows added: ids are 0 .. n - 1 (one reply per dialogue)."""
    settings: Any
    if "words" in rows[0]:
        settings = Ner(max_window_tokens=window, window_overlap_tokens=window // 4)
    elif "text" in rows[0]:
        settings = Classification(max_window_tokens=window, max_windows=4)
    else:
        settings = Dialogue(
            context_turns=3, max_prompt_tokens=32, max_reply_tokens=8, replies="all", language="en", stop=[]
        )
    task = settings.build(settings.fit(rows) if labels is None else labels, model.codec(None, list(corpus(rows))))
    task.add(rows)
    return task


def policy_of(model: Any, task: Any, reads: frozenset[str] = frozenset(), seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    policy: nn.Module = model.policy(None, task, reads)
    return policy


# -- algorithms ----------------------------------------------------------------------------------------------------


def dqn(**changes: Any) -> Dqn:
    """Contextual Q-learning on 0/1 rewards, as the default configuration has it."""
    settings: dict[str, Any] = {
        "gamma": 0.0,
        "loss_kind": "bce",
        "backup": "double",
        "dueling": False,
        "n_step": 1,
        "kl_coefficient": 0.05,
        "munchausen_alpha": 0.9,
        "munchausen_temperature": 0.03,
        "munchausen_floor": -1.0,
        "cql_coefficient": 0.0,
        "target": "polyak",
        "target_weights": "all",
        "target_tau": 0.005,
        "target_update_interval": 200,
    }
    return Dqn(**(settings | changes))


TARGET: dict[str, Any] = {
    "target": "polyak",
    "target_weights": "all",
    "target_tau": 0.005,
    "target_update_interval": 200,
}


def c51(**changes: Any) -> C51:
    settings: dict[str, Any] = {"atoms": 3, "lowest": -1.0, "highest": 1.0, "gamma": 0.0, "double": True, "n_step": 1}
    return C51(**(settings | TARGET | changes))


def quantile(**changes: Any) -> Quantile:
    settings: dict[str, Any] = {"quantiles": 2, "kappa": 0.0, "gamma": 0.0, "double": True, "n_step": 1}
    return Quantile(**(settings | TARGET | changes))


def ilql(**changes: Any) -> Ilql:
    settings: dict[str, Any] = {
        "gamma": 0.0,
        "expectile": 0.7,
        "advantage_weight": 1.0,
        "value_coefficient": 1.0,
        "q_coefficient": 1.0,
        "cql_coefficient": 0.1,
        "policy_coefficient": 1.0,
    }
    return Ilql(**(settings | TARGET | changes))


def dqnimb(**changes: Any) -> Dqnimb:
    return Dqnimb(**({"gamma": 0.1, "loss_kind": "mse", "average_decay": 0.99} | changes))


def ips(**changes: Any) -> Ips:
    settings: dict[str, Any] = {"clip": 20.0, "translation": 0.0, "gamma": 0.0}
    return Ips(**(settings | changes))


def filtered_bc(**changes: Any) -> FilteredBc:
    return FilteredBc(**({"threshold": 0.5, "gamma": 0.0} | changes))


def expert_iteration(**changes: Any) -> ExpertIteration:
    settings: dict[str, Any] = {
        "simulations": 8,
        "exploration": 1.25,
        "temperature": 1.0,
        "width": 4,
        "noise": 1.0,
        "threshold": 0.5,
        "gamma": 0.0,
    }
    return ExpertIteration(**(settings | changes))


def doubly_robust(**changes: Any) -> DoublyRobust:
    settings: dict[str, Any] = {"clip": 20.0, "loss_kind": "bce", "reward_model_coefficient": 1.0}
    return DoublyRobust(**(settings | changes))


def reinforce(**changes: Any) -> Reinforce:
    settings: dict[str, Any] = {
        "samples": 4,
        "baseline": "leave_one_out",
        "moving_average_decay": 0.9,
        "credit": "return_to_go",
        "gamma": 0.0,
        "entropy_coefficient": 0.0,
        "value_coefficient": 0.5,
        "kl_coefficient": 0.0,
        "kl_target": None,
        "kl_rate": 0.1,
        "kl_in": "reward",
    }
    return Reinforce(**(settings | changes))


CLIP: dict[str, Any] = {"epochs": 1, "clip_range": 0.2}


def ppo(**changes: Any) -> Ppo:
    settings: dict[str, Any] = {
        "samples": 1,
        "gamma": 0.0,
        "gae_lambda": 0.95,
        "value_coefficient": 0.5,
        "value_clip_range": None,
        "entropy_coefficient": 0.0,
        "kl_coefficient": 0.0,
        "kl_target": None,
        "kl_rate": 0.1,
    }
    return Ppo(**(settings | CLIP | changes))


def grpo(**changes: Any) -> Grpo:
    settings: dict[str, Any] = {
        "samples": 4,
        "scale_rewards": False,
        "credit": "return_to_go",
        "gamma": 0.0,
        "entropy_coefficient": 0.0,
        "kl_coefficient": 0.0,
        "kl_target": None,
        "kl_rate": 0.1,
    }
    return Grpo(**(settings | CLIP | changes))


def supervised(label_smoothing: float = 0.0) -> Supervised:
    return Supervised(label_smoothing=label_smoothing)


def optim(**changes: Any) -> Optim:
    settings: dict[str, Any] = {
        "lr": 1e-3,
        "head_lr": 1e-3,
        "weight_decay": 0.01,
        "warmup_fraction": 0.0,
        "schedule": "constant",
        "max_grad_norm": 1.0,
        "batch_tokens": 200,
        "max_batch_episodes": 16,
        "micro_batches": 1,
    }
    return Optim(**(settings | changes))


def accelerator() -> Accelerator:
    AcceleratorState._reset_state()  # an earlier test of this process may have chosen bf16
    return Accelerator(cpu=True, mixed_precision="no")


def training(policy: nn.Module, task: Any, algorithm: Any, **parts: Any) -> Training:
    """A Training over all examples of a task; ``parts`` replace its components, ``ids`` its examples."""
    labels = algorithm.needs == "labels"
    settings = parts.pop("optim", optim())
    ids = parts.pop("ids", None) or list(range(parts.pop("count", 24)))
    reward = TokenAccuracy(outside_weight=1.0) if task.decisions == "tags" else Accuracy()
    given: dict[str, Any] = {
        "reward": reward,
        "feedback": Full() if labels else Bandit(),
        "explore": Greedy(split_ties=True),
        "search": search_of(algorithm) if "search" in algorithm.reads else None,
        "memory": Latest(),
        "passes": 2.0,
        "seed": 1,
        "accelerator": accelerator(),
        "sampler": BatchSampler(
            ids, task.cost(ids), batch_tokens=settings.batch_tokens, most=settings.max_batch_episodes, seed=1
        ),
    }
    made = Training(policy=policy, task=task, algorithm=algorithm, optim=settings, **(given | parts))
    if algorithm.uses_target:
        made.target = TargetNetwork(
            policy,
            kind=algorithm.target,
            which=algorithm.target_weights,
            tau=algorithm.target_tau,
            interval=algorithm.target_update_interval,
        )
    return made


def plain_gradient_steps(made: Training, rate: float) -> None:
    """Put SGD in place of AdamW, which divides every gradient by its size and so hides wrong factors."""
    weights = [weight for weight in made.policy.parameters() if weight.requires_grad]
    made.optimizer = torch.optim.SGD([{"params": weights, "lr": rate, "base_lr": rate}])
    made.stepper = made.accelerator.prepare(made.optimizer)


# -- a policy that is a table --------------------------------------------------------------------------------------


class TablePolicy(nn.Module):
    """Scores (and values, and heads) of every decision as free weights: [N, T, A], [N, T] and [N, T, A, n]."""

    width = 0

    def __init__(self, scores: Tensor, value: Tensor | None = None, heads: Tensor | None = None) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores.clone())
        self.actions = scores.shape[-1]
        self.value = None if value is None else nn.Parameter(value.clone())
        self.heads = None if heads is None else nn.Parameter(heads.clone())

    def forward(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        width = action.shape[1]
        return Output(
            scores=self.scores[:, :width],
            value=None if self.value is None else self.value[:, :width],
            heads=None if self.heads is None else self.heads[:, :width],
        )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An algorithm that writes down what the learner gives to the loss of the one it wraps."""

    inner: Any
    outputs: list[Output] = field(default_factory=list)
    batches: list[Any] = field(default_factory=list)
    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "rewards"

    @property
    def samples(self) -> int:
        return int(self.inner.samples)

    @property
    def epochs(self) -> int:
        return int(self.inner.epochs)

    @property
    def state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.inner.state
        return state

    @property
    def reads(self) -> frozenset[str]:
        reads: frozenset[str] = self.inner.reads
        return reads

    @property
    def uses_target(self) -> bool:
        return False

    def values(self, scores: Tensor) -> Tensor:
        values: Tensor = self.inner.values(scores)
        return values

    def prepare(self, trajectory: Any) -> Any:
        return self.inner.prepare(trajectory)

    def loss(self, output: Output, trajectory: Any, target: Output | None) -> Tensor:
        self.outputs.append(output)
        self.batches.append(trajectory)
        loss: Tensor = self.inner.loss(output, trajectory, target)
        return loss


# -- configurations ------------------------------------------------------------------------------------------------


def config_of(*words: str) -> DictConfig:
    """What `rlft train WORDS` would run."""
    library = Library([config_folder()])
    options: dict[str, list[str]] = {key: [] for key in library.root("train").values}
    options |= {group: list(library.options.get(group, {})) for group in library.groups("train")}
    overrides, problems = parse(
        list(words), multirun=False, is_text=lambda key: is_text_key(library, "train", key), options=options
    )
    assert problems == []
    composed = compose(library, "train", [(override, override.values[0]) for override in overrides])
    composed = composed or compose_with_hydra(library.folders, "train", list(words))
    assert check(library, "train", composed) == []
    config = OmegaConf.create(composed.values)
    assert isinstance(config, DictConfig)
    return config


# -- comparing -----------------------------------------------------------------------------------------------------


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two nested states differ, bit for bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f"{path}/{key} is missing" for key in one.keys() ^ other.keys()]
        return found + [
            line for key in one.keys() & other.keys() for line in differences(one[key], other[key], f"{path}/{key}")
        ]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{path}: {len(one)} and {len(other)} entries"]
        return [
            line for n, (a, b) in enumerate(zip(one, other, strict=True)) for line in differences(a, b, f"{path}/{n}")
        ]
    return [] if one == other else [f"{path}: {one} and {other}"]


def weights(policy: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in policy.named_parameters()}


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)
