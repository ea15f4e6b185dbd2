"""Logs of what a policy did, with propensities and rewards: written, and read with every fault named by line (docs/logs.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlft_cli.data.checks import TASK_OF, Row
from rlft_cli.data.table import named, read_text, shown
from rlft_cli.data.writing import PAIRS
from rlft_cli.errors import RlftError

VERSION = 1
MOST_FAULTS = 20  # that one message names
WIDEST = (-1.0, 1.0)  # range of a reward where the header names none
_INPUT = {
    "tagged_words": "words",
    "labelled_text": "text",
    "dialogue": "turns",
    **dict.fromkeys(PAIRS, "source"),
    "plain_text": "text",
}


@dataclass(frozen=True, kw_only=True)
class LogHeader:
    """First line of a log: what its episodes are about, and who acted."""

    rows: str  # kind of examples: one of rlft_cli.data.checks.ROWS
    labels: list[str]  # names of the actions; empty where they are ids of tokens
    reward_range: tuple[float, float]
    deterministic: bool  # every propensity is 1, or none is known: no use for importance weights
    tokenizer: str | None  # fingerprint of the tokenizer whose ids the actions are; None for labels
    origin: Mapping[str, Any]  # for people: checkpoint, exploration, reward, seed


@dataclass(frozen=True, kw_only=True)
class LoggedEpisode:
    """One line: an example without its labels, the decisions taken on it, and what came of each."""

    row: Row
    action: list[int]  # in the order of the labels that the reader gave
    reward: list[float | None]  # None: nobody reacted
    propensity: list[float]  # probability of each action, given those before it


@dataclass(frozen=True, kw_only=True)
class Log:
    """A whole log."""

    path: Path
    header: LogHeader
    episodes: list[LoggedEpisode]


def header_line(header: LogHeader) -> str:
    """The first line of a log."""
    content = {
        "rlft_log": VERSION,
        "task": TASK_OF[header.rows].removeprefix("task="),
        "labels": header.labels,
        "reward_range": list(header.reward_range),
        "deterministic": header.deterministic,
        "tokenizer": header.tokenizer,
        "origin": dict(header.origin),
    }
    return json.dumps(content, ensure_ascii=False)


def episode_line(header: LogHeader, episode: LoggedEpisode) -> str:
    """One episode as a line; its action ids are places in ``header.labels``."""
    key = _INPUT[header.rows]
    action: list[Any] = [header.labels[a] for a in episode.action] if header.labels else episode.action
    content = {key: episode.row[key], "action": action, "reward": episode.reward, "propensity": episode.propensity}
    return json.dumps(content, ensure_ascii=False)


def read_log(path: Path, rows: str, labels: Sequence[str], tokenizer: str | None) -> Log:
    """Read a log for a task with this kind of rows, these labels and (for tokens) this tokenizer.

    RlftError names file and line of every fault, the first MOST_FAULTS of them.
    """
    lines = read_text(path).split("\n")
    cut = bool(lines[-1])  # no line end: a writer was stopped, or an editor left it out
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise RlftError(f"{path}: is empty; expected a log as rlft simulate-logs writes it")
    reader = _Reader(path=path, rows=rows, place={label: n for n, label in enumerate(labels)}, faults=[])
    header = reader.header(*numbered[0], tokenizer)
    episodes = [
        episode
        for n, line in numbered[1:]
        if (episode := reader.episode(n, line, header, cut and n == len(lines))) is not None
    ]
    if not episodes and not reader.faults:
        reader.fault(numbered[0][0], "there is no episode after the header")
    if reader.faults:
        raise RlftError(_page(path, reader.faults))
    return Log(path=path, header=header, episodes=episodes)


def _page(path: Path, faults: Sequence[str]) -> str:
    if len(faults) == 1:
        return faults[0]
    rest = f", the first {MOST_FAULTS} of them" if len(faults) > MOST_FAULTS else ""
    return "\n  ".join([f"{path}: {len(faults)} faults{rest}; nothing was started:", *faults[:MOST_FAULTS]])


@dataclass(frozen=True, kw_only=True)
class _Reader:
    path: Path
    rows: str
    place: Mapping[str, int]  # of each label
    faults: list[str]

    def fault(self, line: int, text: str) -> None:
        self.faults.append(f"{self.path}:{line}: {text}")

    def header(self, line: int, text: str, tokenizer: str | None) -> LogHeader:
        """The header; RlftError at once where it is not one, for nothing else can be judged without it."""
        content = _parsed(text)
        if not isinstance(content, dict) or content.get("rlft_log") != VERSION:
            raise RlftError(
                f'{self.path}:{line}: is not the header of a log: expected {{"rlft_log": {VERSION}, "task": ..., '
                '"labels": [...]}; docs/logs.md describes it'
            )
        kinds = {TASK_OF[rows].removeprefix("task="): rows for rows in TASK_OF}
        task, wanted = content.get("task"), TASK_OF[self.rows].removeprefix("task=")
        if task != wanted:
            known = f"task={task}" if task in kinds else f"the task {shown(task)}"
            raise RlftError(
                f"{self.path}:{line}: is a log of {known}, and task={wanted} is asked for; give one of that"
            )
        names = content.get("labels")
        names = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
        if names is None:
            raise RlftError(f"{self.path}:{line}: labels is {shown(content.get('labels'))}, expected a list of texts")
        strange = [name for name in names if name not in self.place]
        if strange:
            self.fault(line, f"the labels {named(strange)} are not among those of the model: {named(list(self.place))}")
        if not self.place and content.get("tokenizer") != tokenizer:
            self.fault(line, "the actions are ids of another tokenizer; use the model that the log was written with")
        return LogHeader(
            rows=self.rows,
            labels=names,
            reward_range=self._range(line, content.get("reward_range", list(WIDEST))),
            deterministic=content.get("deterministic") is True,
            tokenizer=tokenizer,
            origin=content.get("origin") or {},
        )

    def _range(self, line: int, given: Any) -> tuple[float, float]:
        if isinstance(given, list) and len(given) == 2 and all(map(_is_number, given)) and given[0] < given[1]:
            return float(given[0]), float(given[1])
        self.fault(line, f"reward_range is {shown(given)}, expected two numbers, the smaller first")
        return WIDEST

    def episode(self, line: int, text: str, header: LogHeader, cut: bool) -> LoggedEpisode | None:
        """One line; None where it has a fault."""
        content = _parsed(text)
        if not isinstance(content, dict):
            why = "is cut off: the file ends in the middle of it; leave it out, or write the log again"
            self.fault(line, why if cut else f"is not a JSON object: {shown(text)}")
            return None
        before = len(self.faults)
        key = _INPUT[self.rows]
        if (wrong := _wrong_input(key, content.get(key))) is not None:
            self.fault(line, wrong)
        columns = {name: self._column(line, content, name) for name in ("action", "reward", "propensity")}
        if len(self.faults) > before:
            return None
        self._check_lengths(line, content[key], columns)
        action = [self._action(line, name, header) for name in columns["action"]]
        for fault in (*_wrong_rewards(columns["reward"], header), *_wrong_propensities(columns["propensity"])):
            self.fault(line, fault)
        if len(self.faults) > before:
            return None
        row: Row = {key: content[key], "origin": f"{self.path.name}:{line}"}
        hidden: dict[str, Row] = {  # canonical rows have them
            "words": {"tags": []},
            "text": {"label": ""},
            "turns": {},
            "source": {"target": ""},
        }
        row |= hidden[key]
        return LoggedEpisode(row=row, action=action, reward=columns["reward"], propensity=columns["propensity"])

    def _column(self, line: int, content: Mapping[str, Any], name: str) -> list[Any]:
        """A list of values, one a decision; a single one may stand without its list."""
        if name not in content:
            why = "; a log without propensities can be learned from by nobody, log them" if name == "propensity" else ""
            self.fault(line, f"has no {name}{why}")
            return []
        value = content[name]
        return value if isinstance(value, list) else [value]

    def _check_lengths(self, line: int, given: Any, columns: Mapping[str, list[Any]]) -> None:
        decisions = {"tagged_words": len(given), "labelled_text": 1}.get(self.rows, max(1, len(columns["action"])))
        unit = "word" if self.rows == "tagged_words" else "decision"
        for name, column in columns.items():
            if len(column) != decisions:
                self.fault(line, f"{name} has {len(column)} values, expected {decisions}, one a {unit}")

    def _action(self, line: int, name: Any, header: LogHeader) -> int:
        if not self.place:
            if isinstance(name, int) and not isinstance(name, bool) and name >= 0:
                return name
            self.fault(line, f"the action {shown(name)} is not the id of a token")
            return 0
        if not isinstance(name, str) or name not in header.labels:
            self.fault(line, f"the action {shown(name)} is not among the log's labels {named(header.labels)}")
            return 0
        return self.place.get(name, 0)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong_input(key: str, value: Any) -> str | None:
    if value is None:
        return f"has no {key}; expected the example that was decided on"
    if key in ("text", "source") and not (isinstance(value, str) and value.strip()):
        return f"{key} is {shown(value)}, expected a text with words"
    if key == "words" and not (isinstance(value, list) and value and all(isinstance(w, str) and w for w in value)):
        return f"words is {shown(value)}, expected a list of words"
    if key == "turns" and not (isinstance(value, list) and value and all(map(_is_turn, value))):
        return f'turns is {shown(value)}, expected a list of {{"role": ..., "content": ...}}'
    return None


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and all(isinstance(turn.get(key), str) and turn[key] for key in ("role", "content"))


def _wrong_rewards(rewards: Sequence[Any], header: LogHeader) -> Iterator[str]:
    low, high = header.reward_range
    for reward in rewards:
        if reward is None:
            continue
        if not _is_number(reward):
            yield f"the reward {shown(reward)} is not a number; null is for none"
        elif not low <= reward <= high:
            yield f"the reward {reward:g} is outside the reward_range [{low:g}, {high:g}] of the header"


def _wrong_propensities(propensities: Sequence[Any]) -> Iterator[str]:
    for propensity in propensities:
        if not (_is_number(propensity) and 0 < propensity <= 1):
            yield f"the propensity {shown(propensity)} is not a probability in (0, 1]"


__all__ = ["Log", "LogHeader", "LoggedEpisode", "episode_line", "header_line", "read_log"]
