"""Look ahead: tree search (PUCT) for the answer that is worth most as a whole, by the policy itself or by a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.decode import Aids, Asked
from rlft_cli.errors import UsageError
from rlft_cli.reward import Batch
from rlft_cli.search import search_together
from rlft_cli.task import Task
from rlft_cli.trees import Answer, followed, grow, padded


@dataclass(frozen=True, kw_only=True)
class Mcts:
    """The best whole answer that PUCT meets from the start of each episode (search.py), all episodes of a batch in step.

    Actions of a decision are weighted by softmax(score / temperature) over the ``width`` best legal ones. A new path is
    followed to its end by the best action each time, which for tokens is a rollout of the policy; the whole answer is
    worth
      policy       sum_t log pi(a_t|s_t); sum_t Q(s_t, a_t) where values of single decisions were learned (gamma 0)
      policy_mean  the same, divided by the number of decisions
      value        V(s_T) before the last action of a reply, or Q(s_T, a_T) where values were learned (Liu et al. 2023
                   search with the value that PPO learned)
      reward       what a reward gives that reads no references (Chaffin et al. 2022 search by a classifier)
    The first answer that is seen is the greedy one: nothing worse is found. Deterministic.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")

    worth: Literal["policy", "policy_mean", "value", "reward"]
    simulations: Annotated[int, "[1, inf)"]
    exploration: Annotated[float, "[0, inf)"]
    temperature: Annotated[float, "(0, inf)"]
    width: Annotated[int, "[1, inf)"]

    @property
    def reads(self) -> frozenset[str]:
        """The reward where answers are judged by it."""
        return frozenset({"reward"} if self.worth == "reward" else ())

    def require(self, task: Task, aids: Aids) -> None:
        """UsageError for decisions or a policy of which the worth asked for cannot be had."""
        if task.decisions not in self.decisions:
            raise UsageError(
                f"decode=mcts searches {', '.join(self.decisions)}, the checkpoint decides {task.decisions}; type decode=greedy"
            )
        if self.worth == "reward":
            self._require_reward(task, aids)
        if self.worth.startswith("policy") and aids.values is not None and aids.gamma > 0:
            instead = " decode.worth=value or" if task.decisions == "tokens" else ""
            raise UsageError(
                f"decode.worth={self.worth} adds up values of single decisions, but with algo.gamma={aids.gamma:g} the values "
                f"of this checkpoint count what follows too; type{instead} decode.worth=reward reward=NAME, or decode=greedy"
            )
        if self.worth == "value" and (task.decisions != "tokens" or not (aids.foresees or aids.values is not None)):
            lacks = "decides " + task.decisions if task.decisions != "tokens" else "has learned no values"
            raise UsageError(
                f"decode.worth=value goes by what is foreseen at the end of a reply, and the checkpoint {lacks}; "
                "type decode.worth=policy"
            )

    def _require_reward(self, task: Task, aids: Aids) -> None:
        if aids.reward is None:
            raise UsageError("decode.worth=reward needs a reward: type reward=NAME, or decode.worth=policy")
        if task.decisions not in aids.reward.decisions:
            judged = " and ".join(aids.reward.decisions)
            raise UsageError(
                f"reward={aids.reward_name} judges {judged}, the checkpoint decides {task.decisions}; choose another reward=, "
                "or type decode.worth=policy"
            )

    def __call__(self, asked: Asked) -> tuple[Tensor, Tensor]:
        """Actions [B, T] and their mask."""
        aids = asked.aids

        def values(scores: Tensor) -> Tensor:
            scores = asked.checked(scores)
            return scores if aids.values is None else aids.values(scores)

        complete = grow(
            asked.policy,
            asked.task,
            asked.observation,
            values,
            log_prob=aids.values is None,
            temperature=self.temperature,
            width=self.width,
        )
        ids = asked.observation["id"].tolist()

        def judge(answers: Sequence[tuple[int, Answer]]) -> list[float]:
            if self.worth == "reward":
                return _rewards(asked, [ids[n] for n, _ in answers], [answer for _, answer in answers])
            return [self._worth(answer, aids) for _, answer in answers]

        found = search_together(
            followed(complete, judge), len(ids), simulations=self.simulations, exploration=self.exploration
        )
        return padded([one.best for one in found], asked.observation["id"].device)

    def _worth(self, answer: Answer, aids: Aids) -> float:
        """What the policy makes of a whole answer."""
        if self.worth == "value":
            return answer.foreseen if aids.foresees else answer.last
        return answer.total / len(answer.path) if self.worth == "policy_mean" else answer.total


def _rewards(asked: Asked, ids: list[int], answers: list[Answer]) -> list[float]:
    """What the reward gives for answers to examples; in place of their references stands nothing, whatever it reads."""
    reward = asked.aids.reward
    assert reward is not None
    action, mask = padded([answer.path for answer in answers], asked.observation["id"].device)
    nothing: list[Any] = ["" if asked.task.decisions != "tags" else [] for _ in ids]
    batch = Batch(
        references=nothing,
        predictions=asked.task.decode(action, mask, ids),
        labels=asked.task.labels,
        contexts=asked.task.contexts(ids),
    )
    paid = reward(action, mask, batch)
    total: list[float] = torch.where(mask, paid, torch.zeros_like(paid)).sum(1).tolist()
    return total
