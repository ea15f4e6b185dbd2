"""Who is measured against whom in bench_training.py, and what is asked for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

# ======== what is asked for (issue 2) =============================================================================
AGAINST_TRAINER, AGAINST_TRAINER_DEFAULTS, AGAINST_BARE = 1.5, 2.5, 0.9  # times as fast, at least
DQN_STEP, REINFORCE_STEP, COMMAND_LINE_SECONDS = 1.9, 1.4, 0.5  # supervised steps and seconds, at most
# ==================================================================================================================
TRAINER_BATCH = 8  # TrainingArguments' default


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to build a contender."""

    name: str
    kind: str  # learner, trainer or bare
    task: str
    words: tuple[str, ...]  # of rlft train: what is trained on what, from which weights
    precision: str  # bf16 or fp32
    padding: str = "longest"  # of the Trainer: longest (of a batch) or max_length (run_glue.py)
    batch: int | None = None  # of the Trainer; None is rlft's mean number of examples in a batch


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two contenders, and what their ratio should be."""

    name: str
    what: str
    one: str
    other: str
    unit: str  # "speed": how many times as fast one is; "cost": how many times as long it takes
    least: float | None = None
    most: float | None = None

    def ratio(self, one: float, other: float) -> float:
        """Of the seconds that both took for the same examples."""
        return other / one if self.unit == "speed" else one / other

    def met(self, ratio: float) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Contenders that take turns."""

    name: str
    plans: list[Plan]
    comparisons: list[Comparison]


def trainer_group(task: str, words: tuple[str, ...], native: str) -> Group:
    """rlft's supervised learner against the Trainer; ``native`` is the precision that rlft chooses here."""
    words = (f"task={task}", "algo=supervised", *words)
    padding = "longest" if task == "ner" else "max_length"
    how = "padded to the longest of a batch" if task == "ner" else "padded to 128 tokens, run_glue.py's default"
    plans, comparisons = [], []
    for precision in dict.fromkeys((native, "fp32")):
        plans += [
            Plan(name=f"rlft_{precision}", kind="learner", task=task, words=words, precision=precision),
            Plan(
                name=f"trainer_{precision}",
                kind="trainer",
                task=task,
                words=words,
                precision=precision,
                padding=padding,
            ),
        ]
        comparisons.append(
            Comparison(
                name=f"{task}_trainer_{precision}",
                one=f"rlft_{precision}",
                other=f"trainer_{precision}",
                unit="speed",
                what=f"{task}: rlft against the Trainer, both {precision}, batches of equal mean size, {how}",
                least=AGAINST_TRAINER,
            )
        )
    plans.append(
        Plan(
            name="trainer_defaults",
            kind="trainer",
            task=task,
            words=words,
            precision="fp32",
            padding=padding,
            batch=TRAINER_BATCH,
        )
    )
    comparisons.append(
        Comparison(
            name=f"{task}_trainer_defaults",
            one=f"rlft_{native}",
            other="trainer_defaults",
            unit="speed",
            what=f"{task}: each with its own defaults (rlft: {native}, batches by tokens; Trainer: fp32, batch 8, {how})",
            least=AGAINST_TRAINER_DEFAULTS,
        )
    )
    if padding != "longest":  # kinder to the Trainer than its example is, for orientation
        kind = f"trainer_{native}_longest"
        plans.append(Plan(name=kind, kind="trainer", task=task, words=words, precision=native))
        comparisons.append(
            Comparison(
                name=f"{task}_{kind}",
                one=f"rlft_{native}",
                other=kind,
                unit="speed",
                what=f"{task}: as the first, but the Trainer pads to the longest of a batch (pad_to_max_length=False)",
            )
        )
    return Group(name=f"{task}_trainer", plans=plans, comparisons=comparisons)


def steps_group(task: str, words: tuple[str, ...], native: str) -> Group:
    """The algorithms' steps against the supervised one, and that against a bare loop, on the same batches."""

    def plan(name: str, *more: str, kind: str = "learner") -> Plan:
        return Plan(name=name, kind=kind, task=task, words=(f"task={task}", *more, *words), precision=native)

    plans = [
        plan("supervised", "algo=supervised"),
        plan("dqn", "algo=dqn", "memory=latest"),
        plan("dqn_replay", "algo=dqn", "memory=replay", "memory.warmup_episodes=1"),  # 1: every step of a lap learns
        plan("reinforce", "algo=reinforce"),
        plan("bare", "algo=supervised", kind="bare"),
    ]
    step = f"{task}: step (act, judge, learn) against a supervised step"
    comparisons = [
        Comparison(
            name=f"{task}_dqn",
            one="dqn",
            other="supervised",
            unit="cost",
            most=DQN_STEP,
            what=f"{step}: DQN, the same batch (memory=latest)",
        ),
        Comparison(
            name=f"{task}_dqn_replay",
            one="dqn_replay",
            other="supervised",
            unit="cost",
            most=DQN_STEP,
            what=f"{step}: DQN, a batch of the memory (memory=replay)",
        ),
        Comparison(
            name=f"{task}_reinforce",
            one="reinforce",
            other="supervised",
            unit="cost",
            most=REINFORCE_STEP,
            what=f"{step}: REINFORCE",
        ),
        Comparison(
            name=f"{task}_bare",
            one="supervised",
            other="bare",
            unit="speed",
            least=AGAINST_BARE,
            what=f"{task}: rlft's supervised learner against a bare forward-backward-step loop, same batches",
        ),
    ]
    return Group(name=f"{task}_steps", plans=plans, comparisons=comparisons)
