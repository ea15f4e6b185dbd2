"""Rows of turns: roles that alternate, no empty turn, something for the assistant to say."""

from __future__ import annotations

import json
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from rlft_cli.data.checks import ColumnNames, Leftovers, Row, check_encodable, column_of, invisible_message, line_of
from rlft_cli.data.table import Table, fault, named, shown

_ROLES = ("system", "user", "assistant")
Turn = dict[str, str]


def dialogue(table: Table, names: ColumnNames, repair: bool) -> tuple[list[Row], list[str]]:
    """Check rows {"turns": [{"role", "content"}]}; RlftError names file, line and turn."""
    left = Leftovers(table, repair)
    found: list[Row] = []
    for line, row in table.rows:
        value = row[column_of(table, "dialogue", "turns_column", (names.turns,), row, line)]
        turns = turns_of(table, line, names.turns, value, left)
        if not turns:
            left.settle(line, "the dialogue has no turns", "dialogues without turns are left out")
        elif all(turn["role"] != "assistant" for turn in turns):
            left.settle(
                line,
                "no turn is the assistant's, so there is no reply to learn",
                "dialogues without a reply are left out",
            )
        else:
            found.append({"turns": turns, "origin": f"{table.name}:{line}"})
    hidden = invisible_message(
        table.name,
        "turns",
        (turn["content"] for row in found for turn in row["turns"]),
        lambda text: next(line_of(row) for row in found for turn in row["turns"] if turn["content"] == text),
    )
    return found, left.messages() + hidden


def turns_of(table: Table, line: int, name: str, value: Any, left: Leftovers) -> list[Turn]:
    """Turns of one row: not empty, of known roles that alternate; RlftError names line and turn."""
    return _alternating(line, _filled(line, _turns(table, line, name, value), left), left)


def _turns(table: Table, line: int, name: str, value: Any) -> list[Turn]:
    if isinstance(value, str):  # a CSV cell holds its list as JSON
        with suppress(json.JSONDecodeError):  # what is no list is refused below
            value = json.loads(value)
    if not isinstance(value, list):
        raise fault(table.where, line, f'{name} is {shown(value)}, expected a list of {{"role", "content"}}')
    return [_turn(table, line, n, turn) for n, turn in enumerate(value, start=1)]


def _turn(table: Table, line: int, n: int, turn: Any) -> Turn:
    if not isinstance(turn, dict) or "role" not in turn or "content" not in turn:
        there = named(list(turn)) if isinstance(turn, dict) else shown(turn)
        raise fault(table.where, line, f"turn {n} has {there or 'nothing'}; expected role and content")
    role, content = turn["role"], turn["content"]
    if role not in _ROLES or (role == "system" and n > 1):
        near = get_close_matches(str(role), _ROLES, n=1)
        hint = f"; did you mean {near[0]}?" if near and near[0] != role else ""
        raise fault(
            table.where,
            line,
            f"turn {n} has the role {shown(role)}; expected user or assistant (system only in turn 1){hint}",
        )
    if not isinstance(content, str):
        raise fault(table.where, line, f"turn {n} has the content {shown(content)}, expected a text")
    check_encodable(table, line, content)
    return {"role": role, "content": content}


def _filled(line: int, turns: list[Turn], left: Leftovers) -> list[Turn]:
    kept = []
    for n, turn in enumerate(turns, start=1):
        if turn["content"].strip():
            kept.append(turn)
        else:
            left.settle(line, f"turn {n} ({turn['role']}) is empty", "empty turns are left out")
    return kept


def _alternating(line: int, turns: list[Turn], left: Leftovers) -> list[Turn]:
    kept: list[Turn] = []
    for n, turn in enumerate(turns, start=1):
        if kept and kept[-1]["role"] == turn["role"]:
            left.settle(
                line,
                f"turns {n - 1} and {n} are both of the {turn['role']}; roles must alternate",
                "neighbouring turns of one role are joined",
            )
            kept[-1] = {**turn, "content": kept[-1]["content"] + " " + turn["content"]}
        else:
            kept.append(turn)
    return kept
