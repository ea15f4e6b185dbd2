"""A small folder of options with their module, for tests of the command line that need no real component."""

from __future__ import annotations

from pathlib import Path

MODULE = """
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Optional

Kind = Literal["mse", "bce"]

@dataclass(frozen=True, kw_only=True)
class Task:
    decisions: ClassVar[str] = "tags"
    size: Annotated[int, "[1, inf)"]

@dataclass(frozen=True, kw_only=True)
class Talk:
    decisions: ClassVar[str] = "tokens"

@dataclass(frozen=True, kw_only=True)
class Tagger:
    decides: ClassVar[tuple[str, ...]] = ("tags",)
    sources: list[str]
    table: dict[str, dict[str, float]]

@dataclass(frozen=True, kw_only=True)
class Writer:
    decides: ClassVar[tuple[str, ...]] = ("tokens",)

@dataclass(frozen=True, kw_only=True)
class Q:
    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    gamma: Annotated[float, "[0, 1)"]
    loss_kind: Kind
    steps: Annotated[int | None, "(0, 9]"]
    double: bool
    extra: Any
    note: Optional[str]
    _state: dict[str, int] = field(init=False, default_factory=dict)

@dataclass(frozen=True, kw_only=True)
class Gradient:
    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "tokens")
    samples: "Annotated[int, '[1, inf)']"

@dataclass(frozen=True, kw_only=True)
class Labels:
    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "labels"

@dataclass(frozen=True, kw_only=True)
class TagReward:
    decisions: ClassVar[tuple[str, ...]] = ("tags",)
    weight: Annotated[float, "[0, 1]"]

@dataclass(frozen=True, kw_only=True)
class TextReward:
    decisions: ClassVar[tuple[str, ...]] = ("tokens",)

@dataclass(frozen=True, kw_only=True)
class SumReward:
    decisions: ClassVar[tuple[str, ...]] = ("tags", "tokens")
    terms: list[Reward]

@dataclass(frozen=True, kw_only=True)
class Full:
    reveals: ClassVar[str] = "labels"

@dataclass(frozen=True, kw_only=True)
class Bandit:
    reveals: ClassVar[str] = "rewards"

@dataclass(frozen=True, kw_only=True)
class Epsilon:
    on_policy: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "tokens")
    start: Annotated[float, "[0, 1]"]

@dataclass(frozen=True, kw_only=True)
class Sample:
    on_policy: ClassVar[bool] = True

@dataclass(frozen=True, kw_only=True)
class Replay:
    fresh: ClassVar[bool] = False
    capacity: Annotated[int, "[1, inf)"]

@dataclass(frozen=True, kw_only=True)
class Latest:
    fresh: ClassVar[bool] = True

@dataclass(frozen=True, kw_only=True)
class Folder:
    dir: str

@dataclass(frozen=True, kw_only=True)
class Plain:
    computed: ClassVar[list[int]] = sorted([2, 1])

class Bare:
    size: int
"""

OPTIONS = {
    "task/tag.yaml": "# Tags.\n_target_: toy_parts.Task\nsize: 3  # how big; [1, inf)\n",
    "task/talk.yaml": (
        "# Talk.\ndefaults:\n  - override /model@_global_.model: writer\n"
        "  - override /reward@_global_.reward: text\n_target_: toy_parts.Talk\n"
    ),
    "model/tagger.yaml": "# Reads.\n_target_: toy_parts.Tagger\nsources: [a, b]  # names\ntable: {}  # costs\n",
    "model/writer.yaml": "# Writes.\n_target_: toy_parts.Writer\n",
    "algo/q.yaml": (
        "# Learns values.\n_target_: toy_parts.Q\n# How far it looks ahead; no unit, [0, 1).\ngamma: 0.5\n"
        "loss_kind: mse  # mse or bce\nsteps: null  # (0, 9] or null\ndouble: true  # true or false\n"
        "extra: null  # anything\nnote: null  # text or null\n"
    ),
    "algo/q_far.yaml": "# Looks far.\ndefaults:\n  - q\n  - _self_\ngamma: 0.9  # as in q\n",
    "algo/gradient.yaml": (
        "# Follows gradients.\ndefaults:\n  - override /explore@_global_.explore: sample\n"
        "  - override /memory@_global_.memory: latest\n_target_: toy_parts.Gradient\nsamples: 4  # [1, inf)\n"
    ),
    "algo/labels.yaml": (
        "# Learns from labels.\ndefaults:\n  - override /feedback@_global_.feedback: full\n"
        "  - override /memory@_global_.memory: latest\n_target_: toy_parts.Labels\n"
    ),
    "reward/tag.yaml": "# For tags.\n_target_: toy_parts.TagReward\nweight: 1  # [0, 1]\n",
    "reward/text.yaml": "# For text.\n_target_: toy_parts.TextReward\n",
    "reward/sum.yaml": (
        "# Both.\n_target_: toy_parts.SumReward\nterms:  # rewards\n"
        "  - _target_: toy_parts.TagReward\n    weight: 0.5\n"
    ),
    "feedback/full.yaml": "# Labels.\n_target_: toy_parts.Full\n",
    "feedback/bandit.yaml": "# Rewards.\n_target_: toy_parts.Bandit\n",
    "explore/epsilon.yaml": "# Now and then.\n_target_: toy_parts.Epsilon\nstart: 0.1  # [0, 1]\n",
    "explore/sample.yaml": "# From the policy.\n_target_: toy_parts.Sample\n",
    "memory/replay.yaml": "# Keeps.\n_target_: toy_parts.Replay\ncapacity: 100  # episodes, [1, inf)\n",
    "memory/latest.yaml": "# Forgets.\n_target_: toy_parts.Latest\n",
    "data/plain.yaml": "# Nothing.\n_target_: toy_parts.Plain\n",
    "data/folder.yaml": "# A folder.\n_target_: toy_parts.Folder\ndir: ???  # Folder with the data; a path.\n",
    "tuning/plain.yaml": "# Nothing.\n_target_: toy_parts.Plain\n",
    "hardware/plain.yaml": "# Nothing.\n_target_: toy_parts.Plain\n",
    "recipe/tag_q.yaml": "# @package _global_\n# Tags by values.\npasses: 7.0\nalgo: {gamma: 0.25}\n",
    "experiment/mine.yaml": (
        "# @package _global_\n# Mine.\ndefaults:\n  - override /algo: gradient\noptim: {lr: 3e-5}\nseed: 9\n"
    ),
    "experiment/wrong.yaml": "# @package _global_\n# Wrong.\noptim:\n  lrr: 1\nalgo:\n  gamma: 1.0\n  gama: 0\n",
}

_GROUPS = {
    "model: minilm": "model: tagger",
    "data: sample": "data: plain",
    "tuning: full": "tuning: plain",
    "reward: token_accuracy": "reward: tag",
    "explore: epsilon_greedy": "explore: epsilon",
    "hardware: auto": "hardware: plain",
    "algo: dqn": "algo: q",
    "task: ner": "task: tag",
}


def write_toy(folder: Path) -> Path:
    """Write toy_parts.py into a folder and the options into its subfolder ``toy``; returns the subfolder."""
    (folder / "toy_parts.py").write_text(MODULE)
    configs = folder / "toy"
    for name, text in OPTIONS.items():
        (configs / name).parent.mkdir(parents=True, exist_ok=True)
        (configs / name).write_text(text)
    packaged = Path(__file__).parent.parent / "configs"
    for verb in ("train", "eval", "predict"):
        text = (packaged / f"{verb}.yaml").read_text()
        for theirs, ours in _GROUPS.items():
            text = text.replace(f"- {theirs}\n", f"- {ours}\n")
        (configs / f"{verb}.yaml").write_text(text)
    return configs
