"""What a model reads of a dialogue: ids of the turns that fit, in the model's chat template."""

from __future__ import annotations

from dataclasses import dataclass

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model import Codec
from rlft_cli.task import Row
from rlft_cli.task.replies import LeftOut, Turns, longest_part, require_visible


@dataclass(frozen=True, kw_only=True)
class TurnsPrompt:
    """How turns are put to a model: as many of the last ones as fit.

    A system turn is what the others are read by: it stays, whatever is dropped, and is no turn of context.
    """

    context_turns: int
    max_prompt_tokens: int

    def ids(self, turns: Turns, origin: str, codec: Codec, left_out: LeftOut) -> list[int]:
        """Ids of the last turns that fit max_prompt_tokens: whole turns, or the end of the last one."""
        system, said = (turns[:1], turns[1:]) if turns[0]["role"] == "system" else ([], turns)
        kept = said[-self.context_turns :]
        prompt = _ids(codec, [*system, *kept], origin)
        while len(kept) > 1 and (prompt is None or len(prompt) > self.max_prompt_tokens):
            left_out.dropped_turns += 1
            kept = kept[1:]
            prompt = _ids(codec, [*system, *kept], origin)
        if prompt is not None and len(prompt) <= self.max_prompt_tokens:
            return prompt
        left_out.cut_prompts += 1
        return self._end_of_turn(system, (kept or system)[-1], origin, codec)

    def _end_of_turn(self, system: Turns, turn: dict[str, str], origin: str, codec: Codec) -> list[int]:
        """Prompt of the longest end of a turn that fits."""
        before = [] if turn in system else system

        def ids(content: str) -> list[int]:
            return codec.chat_ids([*before, {**turn, "content": content}])

        found = longest_part(ids, turn["content"], self.max_prompt_tokens, "end")
        if found is None:
            raise UsageError(
                f"{origin}: task.max_prompt_tokens={self.max_prompt_tokens} does not hold one letter, for "
                f"{'the system turn and ' if before else ''}the chat template of the model alone takes "
                f"{len(ids(turn['content'][-1:])) - 1} tokens; raise it"
            )
        return found


def check_turns(row: Row) -> None:
    """RlftError where a turn of the row holds no visible text, or where there are no turns."""
    for number, turn in enumerate(row["turns"], start=1):
        require_visible(row["origin"], f"turn {number} ({turn['role']})", turn["content"])
    if not row["turns"]:
        raise RlftError(f"{row['origin']}: the dialogue has no turns; expected at least one of the user")


def _ids(codec: Codec, turns: Turns, origin: str) -> list[int] | None:
    """The turns in the model's chat template; None where it might take them without the assistant's turn at the front.

    Turns that were cut off on the left may begin with the assistant's, and some templates want the user's first.
    """
    said = [turn for turn in turns if turn["role"] != "system"]
    try:
        return codec.chat_ids(turns)
    except RlftError as problem:
        if len(said) > 1 and said[0]["role"] == "assistant":
            return None
        raise RlftError(f"{origin}: {problem}") from problem


__all__ = ["TurnsPrompt", "check_turns"]
