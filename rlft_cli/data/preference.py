"""Rows of preferences: a prompt with two replies of which one was preferred, or with one reply that was judged."""

from __future__ import annotations

import re
from typing import Any

from rlft_cli.data.checks import TASK_OF, ColumnNames, Leftovers, Row, check_encodable
from rlft_cli.data.dialogue import Turn, dialogue, turns_of
from rlft_cli.data.table import Table, fault, named, shown

_PAIR, _SINGLE = ("prompt", "chosen", "rejected"), ("prompt", "completion", "label")
_PAIR_KEYS = frozenset(_PAIR)
# A line of a prompt that begins a turn. What a tool answered comes from outside, as the user's turns do.
_SPEAKER = re.compile(r"(User|Human|Assistant|AI|API|Tool)( \([^)\n]*\))?: ?", re.IGNORECASE)
_OUTSIDE = ("api", "tool")


def preference(table: Table, names: ColumnNames, repair: bool) -> tuple[list[Row], list[str]]:
    """Check rows {"prompt", "chosen", "rejected"} or {"prompt", "completion", "label"}; RlftError names file and line.

    Canonical rows hold the turns of the prompt, and the preferred and the other reply; one of both is None where a
    single reply was judged.
    """
    left = Leftovers(table, repair)
    found: list[Row] = []
    for line, row in table.rows:
        if "prompt" in row and row["prompt"] in ("", []):
            left.settle(line, "the prompt is empty", "rows with an empty prompt are left out")
            continue
        compared = comparison(table, line, row, left)
        if compared["chosen"] is not None and compared["chosen"] == compared["rejected"]:
            left.settle(line, "chosen and rejected are the same reply", "pairs of two equal replies are left out")
        elif compared["chosen"] == "" or compared["rejected"] == "":
            which = "chosen" if compared["chosen"] == "" else "rejected"
            left.settle(line, f"the {which} reply is empty", "rows with an empty reply are left out")
        else:
            found.append(compared)
    return found, left.messages()


def replies(table: Table, names: ColumnNames, repair: bool) -> tuple[list[Row], list[str]]:
    """Check rows of turns, or rows of two compared replies: dialogues that end with the preferred one.

    They hold the other one under "rejected", for algorithms that learn from pairs.
    """
    if not table.rows or names.turns in table.rows[0][1] or not table.rows[0][1].keys() >= _PAIR_KEYS:
        return dialogue(table, names, repair)
    compared, messages = preference(table, names, repair)
    return [
        {
            "turns": [*row["turns"], {"role": "assistant", "content": row["chosen"]}],
            "rejected": row["rejected"],
            "origin": row["origin"],
        }
        for row in compared
    ], messages


def comparison(table: Table, line: int, row: dict[str, Any], left: Leftovers) -> Row:
    """One canonical row: "turns", "chosen", "rejected" and "origin"; RlftError names file and line."""
    there = row.keys()
    turns, spoken = _prompt(table, line, row["prompt"] if "prompt" in there else None, left)
    origin = f"{table.name}:{line}"
    if {"chosen", "rejected"} <= there:
        replies = [_reply(table, line, key, row[key], spoken) for key in ("chosen", "rejected")]
        return {"turns": turns, "chosen": replies[0], "rejected": replies[1], "origin": origin}
    if not {"completion", "label"} <= there:
        raise fault(
            table.where,
            line,
            f"{TASK_OF['preference']} reads {', '.join(_PAIR)} (two replies), or {', '.join(_SINGLE)} (one, judged); "
            f"found: {named(list(row)) or 'nothing'}",
        )
    good = row["label"]
    if not isinstance(good, bool) and good not in (0, 1):
        raise fault(table.where, line, f"label is {shown(good)}, expected true (a good reply) or false")
    reply = _reply(table, line, "completion", row["completion"], spoken)
    return {"turns": turns, "chosen": reply if good else None, "rejected": None if good else reply, "origin": origin}


def _prompt(table: Table, line: int, value: Any, left: Leftovers) -> tuple[list[Turn], bool]:
    """Turns of a prompt, and whether it was a text whose lines name their speakers."""
    if isinstance(value, str) and value.strip():
        check_encodable(table, line, value)
        return prompt_turns(value)
    if isinstance(value, list):
        turns = turns_of(table, line, "prompt", value, left)
        if turns:
            return turns, False
    raise fault(
        table.where, line, f"prompt is {shown(value)}, expected a text, or a list of turns with role and content"
    )


def prompt_turns(text: str) -> tuple[list[Turn], bool]:
    """Turns of a text whose lines begin "User: " or "Assistant: " (and whether they do); else all is one user turn.

    Other lines go on with the turn before, and neighbouring turns of one speaker are one turn.
    """
    if _SPEAKER.match(text.lstrip()) is None:
        return [{"role": "user", "content": text.strip()}], False
    turns: list[Turn] = []
    for line in text.strip().split("\n"):
        begins = _SPEAKER.match(line)
        if begins is None:
            turns[-1]["content"] += "\n" + line
            continue
        role = "assistant" if begins[1].lower() in ("assistant", "ai") else "user"
        content = _said(begins, line)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n" + content
        else:
            turns.append({"role": role, "content": content})
    return [turn for turn in turns if turn["content"].strip()], True


def _said(begins: re.Match[str], line: str) -> str:
    """What a line says; a remark on the speaker, and a speaker who is a tool, stay in it."""
    if begins[1].lower() in _OUTSIDE:
        return line
    remark = (begins[2] or "").strip()
    return f"{remark} {line[begins.end() :]}".strip() if remark else line[begins.end() :]


def _reply(table: Table, line: int, key: str, value: Any, spoken: bool) -> str:
    """Text of a reply: as it is, or that of a list of one turn; its speaker left out where the prompt names speakers."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0].get("content")
    if not isinstance(value, str):
        raise fault(table.where, line, f"{key} is {shown(value)}, expected a text, or a list of one turn")
    check_encodable(table, line, value)
    begins = _SPEAKER.match(value) if spoken else None
    return (value if begins is None else _said(begins, value)).strip()
