"""What tasks of writing share: an episode is a reply to a prompt, a decision one token; it ends at eos or the horizon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.metrics.measures import Measures
from rlft_cli.metrics.text import Language
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row, State
from rlft_cli.task.stops import Stops

SAMPLES = 10  # replies that a result shows
Keep = Literal["begin", "end"]
Turns = list[dict[str, str]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An episode before it has a number."""

    prompt: list[int]  # ids up to where the reply begins
    turns: Turns  # what a person reads before the reply: all of it, however little fits the prompt
    # ids of the reference reply, eos included unless it was cut; none where the tokenizer keeps nothing
    action: list[int]
    reference: str  # the reply as written, never cut
    rejected: list[int] | None = None  # ids of a reply to which the reference was preferred
    origin: str


@dataclass(kw_only=True)
class LeftOut:
    """How much of the rows a model with these limits does not read or learn."""

    dropped_turns: int = 0  # turns of context left out, so that a prompt fits max_prompt_tokens
    cut_prompts: int = 0  # prompts that lost a part of a text
    cut_replies: int = 0  # replies longer than max_reply_tokens: learned without their end
    silent_replies: int = 0  # replies of which the tokenizer keeps no token: nothing is learned from them
    unknown_tokens: int = 0  # tokens of replies that the tokenizer cannot write; left out of the actions
    short_texts: int = 0  # texts of which nothing is left to write


class Prompts(Protocol):
    """How rows become prompts and replies."""

    def drafts(self, rows: Sequence[Row], codec: Codec, left_out: LeftOut) -> list[Draft]:
        """Episodes of rows; RlftError names the row that has none."""
        ...

    def prompt(self, row: Row, codec: Codec, left_out: LeftOut) -> list[int]:
        """Ids of what is to be answered in a row without a reply."""
        ...

    def turns(self, row: Row) -> Turns:
        """What is to be answered in a row without a reply, as a person would read it."""
        ...


class Writing(Protocol):
    """The settings of a task of writing."""

    rows: ClassVar[str]
    primary: ClassVar[str]

    @property
    def max_prompt_tokens(self) -> int:
        """Most tokens of a prompt."""
        ...

    @property
    def max_reply_tokens(self) -> int:
        """The horizon of an episode."""
        ...

    @property
    def language(self) -> Language:
        """What the replies are written in."""
        ...

    @property
    def prompts(self) -> Prompts:
        """How its rows become prompts and replies."""
        ...

    @property
    def measures(self) -> tuple[Measures, ...]:
        """What replies are scored by."""
        ...


class ReplyTask:
    """Prompts and replies in the tokens of one model; UsageError where both together are longer than it reads.

    ``left_out`` counts what ``add`` and ``ask`` had to leave out.
    """

    decisions: ClassVar[Decisions] = "tokens"

    def __init__(self, writing: Writing, codec: Codec, stop: Sequence[str] = ()) -> None:
        require_room(writing.max_prompt_tokens, writing.max_reply_tokens, codec)
        self.writing, self.codec = writing, codec
        self.stops = Stops(stop, codec)
        self.rows, self.primary = writing.rows, writing.primary
        self.labels: list[str] = []
        self.left_out = LeftOut()
        self._episodes: list[Draft] = []

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Make the episodes of rows; a row may give several, or none. RlftError names the row with a fault."""
        return self._store(self.writing.prompts.drafts(rows, self.codec, self.left_out))

    def ask(self, rows: Sequence[Row]) -> list[int]:
        """Make one episode of each row, to be answered; its reference is empty."""
        return self._store(
            [
                Draft(
                    prompt=self.writing.prompts.prompt(row, self.codec, self.left_out),
                    turns=self.writing.prompts.turns(row),
                    action=[self.codec.eos_id],
                    reference="",
                    origin=row["origin"],
                )
                for row in rows
            ]
        )

    def cost(self, ids: Sequence[int]) -> list[int]:
        """Tokens of prompt and reference reply; of a pair, those of the other reply too."""
        some = [self._episodes[n] for n in ids]
        return [len(one.prompt) + len(one.action) + len(one.rejected or ()) for one in some]

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """Prompts, padded on the left: "id" [B], "prompt_ids" [B, P] int64, "prompt_mask" [B, P] bool."""
        prompts = [self._episodes[n].prompt for n in ids]
        width = max(map(len, prompts))
        padded = [[self.codec.pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
        length = torch.tensor([len(prompt) for prompt in prompts])
        return {
            "id": torch.tensor(list(ids), dtype=torch.int64),
            "prompt_ids": torch.tensor(padded, dtype=torch.int64),
            "prompt_mask": torch.arange(width)[None, :] >= width - length[:, None],
        }

    def reset(self, observation: dict[str, Tensor], samples: int) -> State:
        """Begin ``samples`` replies to each prompt."""
        like = observation["id"].repeat_interleave(samples)
        return State(
            t=0,
            previous=torch.full_like(like, -1),
            length=torch.full_like(like, self.writing.max_reply_tokens),
            done=torch.zeros_like(like, dtype=torch.bool),
            recent=like[:, None].new_full((len(like), self.stops.look_back), -1) if self.stops.texts else None,
        )

    def step(self, state: State, action: Tensor) -> State:
        """Append a token to each reply [N]; eos, a stop string and the horizon end it."""
        t = state.t + 1
        done = state.done | (action == self.codec.eos_id) | (t >= state.length)
        recent = state.recent
        if recent is not None:
            recent = torch.cat([recent[:, 1:], action[:, None]], dim=1)
            done = done | self.stops.stopped(recent, (recent >= 0) & ~done[:, None])
        return State(t=t, previous=action, length=state.length, done=done, recent=recent)

    def truncated(self, action: Tensor, mask: Tensor) -> Tensor:
        """Which replies [N] the horizon stopped: ``action`` [N, T] holds neither eos nor a stop string."""
        ended = ((action == self.codec.eos_id) & mask).any(1)
        return ~(ended | self.stops.stopped(action, mask & ~ended[:, None]))

    def demonstration(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Reference replies [B, T] int64 and their mask [B, T]; a cut reply has no eos: no end is taught there."""
        return self._padded([self._episodes[n].action for n in ids])

    def _padded(self, actions: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = max(1, *map(len, actions))
        padded = [action + [self.codec.pad_id] * (width - len(action)) for action in actions]
        length = torch.tensor([len(action) for action in actions])
        return torch.tensor(padded, dtype=torch.int64), torch.arange(width)[None, :] < length[:, None]

    def preferred(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pairs of replies [2 B, T] int64 and their mask, the preferred and the other one of each prompt side by side.

        RlftError names an episode that has one reply only.
        """
        rows: list[list[int]] = []
        for pair in (self._episodes[n] for n in ids):
            if pair.rejected is None:
                raise RlftError(
                    f"{pair.origin}: has no rejected reply, and this algorithm learns from pairs; give data with prompt, "
                    "chosen and rejected, or choose algo=supervised"
                )
            rows += [pair.action, pair.rejected]
        return self._padded(rows)

    def contexts(self, ids: Sequence[int]) -> list[Turns]:
        """All that was said before each reply, whether or not it fits the prompt."""
        return [self._episodes[n].turns for n in ids]

    def references(self, ids: Sequence[int]) -> list[str]:
        """Replies as they were written, however long."""
        return [self._episodes[n].reference for n in ids]

    def decode(self, action: Tensor, mask: Tensor, ids: Sequence[int]) -> list[str]:
        """Text of each reply of ``action`` [len(ids), T] up to its eos or the first stop string."""
        rows = zip(action.tolist(), mask.tolist(), strict=True)
        return [self.text([token for token, real in zip(*row, strict=True) if real]).strip() for row in rows]

    def text(self, ids: Sequence[int]) -> str:
        """Text of reply ids up to eos or the first stop string."""
        said = list(ids)
        end = said.index(self.codec.eos_id) if self.codec.eos_id in said else len(said)
        return self.stops.before(self.codec.text(said[:end]))

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """The metrics of the task, with 95 % bootstrap intervals."""
        language = self.writing.language
        return _together(m.score(predictions, references, seed, resamples, language) for m in self.writing.measures)

    def compare(
        self, ours: Sequence[Any], theirs: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Differences, ours minus theirs, of the metrics of ``score``, with paired 95 % bootstrap intervals."""
        language = self.writing.language
        return _together(m.compare(ours, theirs, references, seed, resamples, language) for m in self.writing.measures)

    def details(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
        """The first replies beside their references, and what was left out of all rows so far."""
        pairs = zip(predictions[:SAMPLES], references[:SAMPLES], strict=True)
        samples = [{"reply": reply, "reference": reference} for reply, reference in pairs]
        return {"samples": samples, "left_out": asdict(self.left_out)}

    def signatures(self) -> dict[str, str]:
        """How the metrics were computed, for reports."""
        return _together(m.signatures(self.writing.language) for m in self.writing.measures)

    def _store(self, drafts: Sequence[Draft]) -> list[int]:
        first = len(self._episodes)
        self._episodes.extend(drafts)
        return list(range(first, len(self._episodes)))


def _together(parts: Iterable[dict[str, T]]) -> dict[str, T]:
    return {name: value for part in parts for name, value in part.items()}


def require_room(max_prompt_tokens: int, max_reply_tokens: int, codec: Codec) -> None:
    """UsageError where prompt and reply together are longer than the model reads."""
    longest = max_prompt_tokens + max_reply_tokens
    if longest > codec.max_tokens:
        raise UsageError(
            f"task.max_prompt_tokens={max_prompt_tokens} and task.max_reply_tokens={max_reply_tokens} "
            f"make {longest} tokens, the model reads {codec.max_tokens}; lower one of them by "
            f"{longest - codec.max_tokens}"
        )


def require_visible(origin: str, what: str, text: str) -> None:
    """RlftError for a text of which nothing can be seen; ``what`` names it."""
    if not any(letter.isprintable() and not letter.isspace() for letter in text):
        raise RlftError(f"{origin}: {what} has no visible text; write it, or remove the row")


def writable(codec: Codec, ids: Sequence[int], left_out: LeftOut) -> list[int]:
    """The ids that a policy may write; pad, unk and eos cannot be demonstrated.

    Of a tokenizer without such marks pad and unk are ordinary words (GPT-2), and have a text.
    """
    never = {n for n in (codec.pad_id, codec.unk_id) if not codec.text([n])} | {codec.eos_id}
    known = [token for token in ids if token not in never]
    left_out.unknown_tokens += len(ids) - len(known)
    return known


def reply_action(codec: Codec, ids: Sequence[int], horizon: int, left_out: LeftOut, stops: Stops | None) -> list[int]:
    """Reply ids and eos, cut at the horizon; none where nothing of the reply can be written, for silence is no lesson.

    A stop string stands in the place of eos.
    """
    known = writable(codec, ids, left_out)
    if not known:
        left_out.silent_replies += 1
        return []
    action = known if stops is not None and stops.hold(known) else [*known, codec.eos_id]
    left_out.cut_replies += len(action) > horizon
    return action[:horizon]


def longest_part(prompt_of: Callable[[str], list[int]], text: str, limit: int, keep: Keep) -> list[int] | None:
    """Prompt of the longest beginning or end of a text that takes at most ``limit`` ids; None where one letter is too long.

    Text is cut and not ids, so that what stands around it (a chat template, an instruction) stays whole.
    """
    best, low, high = None, 1, len(text)  # letters kept
    while low <= high:
        middle = (low + high) // 2
        part = (text[:middle].rstrip() or text[:1]) if keep == "begin" else (text[-middle:].lstrip() or text[-1:])
        prompt = prompt_of(part)
        if len(prompt) <= limit:
            best, low = prompt, middle + 1
        else:
            high = middle - 1
    return best


__all__ = [
    "Draft",
    "Keep",
    "LeftOut",
    "Prompts",
    "ReplyTask",
    "Turns",
    "Writing",
    "longest_part",
    "reply_action",
    "require_room",
    "require_visible",
    "writable",
]
