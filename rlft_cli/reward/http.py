"""Pays what a reward server says, at the last decision."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor

from rlft_cli.errors import RewardFailure, UsageError
from rlft_cli.metrics.alignment import at_last_decision, contexts_of, one_number_each
from rlft_cli.reward import Batch


class _NoAnswer(Exception):
    """The server did not answer, or not now: worth another try."""


@dataclass(frozen=True, kw_only=True)
class Http:
    """r_T = answer["rewards"][n] to POST {"contexts": [...], "replies": [...], "references": [...]} (JSON, UTF-8).

    A server that does not answer, or with status 429 or 5xx, is asked again after a pause that doubles; RewardFailure
    when all tries are spent, and at once where the server refuses (4xx) or its answer is not what was expected.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    pays: ClassVar[str] = "episode"

    url: str
    timeout_seconds: Annotated[float, "(0, inf)"]
    retries: Annotated[int, "[0, inf)"]
    pause_seconds: Annotated[float, "[0, inf)"]
    contract: Literal["reference", "alone", "none"]

    def __post_init__(self) -> None:
        """UsageError where the address is none of a web server."""
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"reward.url={self.url} is no address; expected http://HOST:PORT/PATH")

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        given = {
            "contexts": list(contexts_of(batch)),
            "replies": list(batch.predictions),
            "references": list(batch.references),
        }
        answer = self._answer(json.dumps(given).encode())
        who = f"the reward server {self.url}"
        if not isinstance(answer, dict) or "rewards" not in answer:
            raise RewardFailure(
                f'{who} answered {str(answer)[:80]!r}; expected {{"rewards": [a number for each reply]}}'
            )
        return at_last_decision(one_number_each(answer["rewards"], len(mask), who), mask)

    def _answer(self, body: bytes) -> Any:
        """The server's answer, at the last of at most 1 + retries tries."""
        pause, reason = self.pause_seconds, ""
        for n in range(self.retries + 1):
            if n:
                time.sleep(pause)
                pause *= 2
            try:
                return self._ask(body)
            except _NoAnswer as problem:
                reason = str(problem)
        raise RewardFailure(
            f"the reward server {self.url} gave no answer in {self.retries + 1} tries of {self.timeout_seconds:g} s "
            f"({reason}); start it again, or raise reward.timeout_seconds or reward.retries"
        )

    def _ask(self, body: bytes) -> Any:
        request = urllib.request.Request(self.url, data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:
                content = response.read()
        except urllib.error.HTTPError as problem:
            if problem.code == 429 or problem.code >= 500:
                raise _NoAnswer(f"status {problem.code}") from problem
            raise RewardFailure(
                f"the reward server {self.url} refused: status {problem.code} {problem.reason}; it is to accept a POST of "
                "contexts, replies and references (JSON)"
            ) from problem
        except (OSError, http.client.HTTPException) as problem:  # refused, reset, not resolved, timed out, cut off
            raise _NoAnswer(str(problem) or type(problem).__name__) from problem
        try:
            return json.loads(content)
        except ValueError as problem:
            raise RewardFailure(
                f"the reward server {self.url} answered {content[:80]!r}, which is no JSON"
            ) from problem
