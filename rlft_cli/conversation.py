"""A conversation with a dialogue policy: its history, replies token by token, and what the policy made of each token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlft_cli.episode import Decision, legal_actions
from rlft_cli.errors import UsageError
from rlft_cli.explore import Explore
from rlft_cli.finite import require_finite
from rlft_cli.reward import Batch, Reward
from rlft_cli.task.replies import ReplyTask

ALTERNATIVES = 3  # likeliest tokens that are told beside the one that was taken


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One token of a reply."""

    id: int
    probability: float  # under the policy itself
    sampled_with: float  # under what was sampled from: temperature, top-k and top-p included
    score: float  # of the policy; a Q value where it learned such
    value: float | None  # V of the state, where the policy has such a head
    likeliest: list[tuple[str, float]]  # tokens and their probabilities under the policy


@dataclass(kw_only=True)
class Conversation:
    """Turns so far, and the policy that answers the next one."""

    task: ReplyTask
    policy: Any  # an nn.Module that is a Policy
    explore: Explore
    values: Callable[[Tensor], Tensor]  # scores in the unit of the reward
    max_reply_tokens: int
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    generator: torch.Generator
    turns: list[dict[str, str]] = field(default_factory=list)
    spoken: list[Spoken] = field(default_factory=list)  # the last reply
    asked: int = -1  # the example that the last reply answers

    def answer(self, text: str) -> Iterator[str]:
        """Answer a turn of the user: yields pieces of the reply as they are certain; then both are part of the history.

        RlftError for a turn without visible text and for scores that are not numbers; the history is then as before.
        """
        turns = [*self.turns, {"role": "user", "content": text}]
        (self.asked,) = self.task.ask([{"turns": turns, "origin": "the conversation"}])
        self.spoken, shown = [], ""
        for spoken in self._decide(self.asked):
            self.spoken.append(spoken)
            known = self.text.lstrip()
            # A letter may be spread over tokens, and a tokenizer may join pieces: what is shown must stay true.
            if known.startswith(shown) and not known.endswith("\ufffd") and not self._may_stop(known):
                yield known[len(shown) :]
                shown = known
        reply = self.text.strip()
        yield reply[len(shown) :] if reply.startswith(shown) else f"\n{reply}" if reply != shown.strip() else ""
        self.turns = [*turns, {"role": "assistant", "content": reply}] if reply else turns[:-1]

    @property
    def text(self) -> str:
        """The last reply as far as it goes."""
        return self.task.text([spoken.id for spoken in self.spoken])

    def ended(self) -> str:
        """What ended the last reply: "eos", "stop" (a stop string) or "length"."""
        action, mask = self._action()
        if int(action[0, -1]) == self.task.codec.eos_id:
            return "eos"
        return "length" if bool(self.task.truncated(action, mask)) else "stop"

    def judged(self, reward: Reward) -> float:
        """What a reward gives for the last reply."""
        action, mask = self._action()
        batch = Batch(
            references=self.task.references([self.asked]),
            predictions=self.task.decode(action, mask, [self.asked]),
            labels=[],
            contexts=self.task.contexts([self.asked]),
        )
        return float(reward(action, mask, batch).sum())

    def forget(self) -> None:
        """Begin anew."""
        self.turns, self.spoken, self.asked = [], [], -1

    def _action(self) -> tuple[Tensor, Tensor]:
        action = torch.tensor([[spoken.id for spoken in self.spoken]], device=self.device)
        return action, torch.ones_like(action, dtype=torch.bool)

    def _may_stop(self, text: str) -> bool:
        """Whether a stop string may have begun at the end of ``text``, so that it must wait to be shown."""
        return any(text.endswith(stop[:n]) for stop in self.task.stops.texts for n in range(1, len(stop)))

    @torch.no_grad()
    def _decide(self, asked: int) -> Iterator[Spoken]:
        """Sample one reply, as ``rollout`` does, and yield each token when it is chosen."""
        observation = {name: tensor.to(self.device) for name, tensor in self.task.collate([asked]).items()}
        state = self.task.reset(observation, 1)
        state = replace(state, length=torch.full_like(state.length, self.max_reply_tokens))
        with self.autocast():
            cache = self.policy.begin(observation, 1)
        while not bool(state.done.all()):
            with self.autocast():
                output, cache = self.policy.step(cache, state)
            require_finite(output.scores, observation, "in the conversation")
            decision = Decision(
                scores=self.values(output.scores),
                legal=legal_actions(output.scores),
                progress=1.0,
                t=state.t,
                rows=torch.zeros(1, dtype=torch.int64, device=self.device),
                length=state.length,
                features=None,
                table=partial(self.policy.table, cache),
            )
            action, log_prob = self.explore(decision, self.generator)
            yield self._spoken(
                output.scores[0], None if output.value is None else float(output.value), action, log_prob
            )
            state = self.task.step(state, action)

    def _spoken(self, scores: Tensor, value: float | None, action: Tensor, log_prob: Tensor) -> Spoken:
        chance = torch.softmax(scores, dim=-1)
        best = chance.topk(min(ALTERNATIVES, len(chance)))
        likeliest = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return Spoken(
            id=int(action),
            probability=float(chance[action]),
            sampled_with=float(log_prob.exp()),
            score=float(self.values(scores)[action]),
            value=value,
            likeliest=[(self.token(token), share) for token, share in likeliest],
        )

    def token(self, token: int) -> str:
        """How one token is written, marks and blanks included."""
        return "<end>" if token == self.task.codec.eos_id else self.task.codec.text([token])


def require_no_reference(reward: Reward, task: ReplyTask) -> None:
    """UsageError for a reward that judges a reply by a reference, of which a conversation has none."""
    action = torch.tensor([task.codec.text_ids(["yes"])[0] or [task.codec.eos_id]])
    mask = torch.ones_like(action, dtype=torch.bool)
    asked = [{"role": "user", "content": "is it"}]
    told = [
        reward(action, mask, Batch(references=[reference], predictions=["yes"], labels=[], contexts=[asked]))
        for reference in ("yes", "no")
    ]
    if not torch.equal(*told):
        raise UsageError(
            "this reward holds a reply against a reference, and a conversation has none; choose one that judges the reply "
            "itself, or leave reward= out"
        )
