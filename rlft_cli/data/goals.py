"""Rows of goals: what a user of a dialogue system wants, as slots with values, and what it will ask for."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from rlft_cli.data.checks import ColumnNames, Leftovers, Row, check_encodable
from rlft_cli.data.table import Table, fault, named, shown


def goals(table: Table, names: ColumnNames, repair: bool) -> tuple[list[Row], list[str]]:
    """Check rows {"constraints": {slot: value}, "requests": [name]}; RlftError names file and line.

    Slots of the canonical rows are in the order of the file, which is that in which a user thinks of them.
    """
    left = Leftovers(table, repair)
    found: list[Row] = []
    for line, row in table.rows:
        goal = goal_of(table, line, row)
        if goal["constraints"]:
            found.append(goal)
        else:
            left.settle(line, "the goal has no constraint", "goals without a constraint are left out")
    return found, left.messages()


def goal_of(table: Table, line: int, row: Row) -> Row:
    """The canonical row of one goal; RlftError names file and line."""
    constraints, requests = _constraints(table, line, row), _requests(table, line, row)
    both = sorted({one["slot"] for one in constraints} & set(requests))
    if both:
        raise fault(table.where, line, f"{named(both)}: a user who wants a certain value does not ask for it; drop one")
    return {"constraints": constraints, "requests": requests, "origin": f"{table.name}:{line}"}


def _field(table: Table, line: int, row: Row, name: str) -> Any:
    if name not in row:
        there = named(list(row)) or "nothing"
        raise fault(
            table.where, line, f"no column {name}; found: {there}. task=goal_dialogue reads constraints, requests"
        )
    value = row[name]
    if isinstance(value, str):  # a CSV cell holds its object or list as JSON
        with suppress(json.JSONDecodeError):  # what is neither is refused by who asked
            value = json.loads(value)
    return value


def _constraints(table: Table, line: int, row: Row) -> list[dict[str, str]]:
    value = _field(table, line, row, "constraints")
    if not isinstance(value, dict):
        raise fault(table.where, line, f'constraints is {shown(value)}, expected an object such as {{"area": "north"}}')
    given = {slot: text for slot, text in value.items() if text is not None}  # Parquet fills slots of other rows in
    for slot, text in given.items():
        if not isinstance(text, str) or not text.strip():
            raise fault(table.where, line, f"the slot {slot} has the value {shown(text)}, expected a text")
        _check_name(table, line, slot)
        check_encodable(table, line, text)
    return [{"slot": slot, "value": text} for slot, text in given.items()]


def _requests(table: Table, line: int, row: Row) -> list[str]:
    value = _field(table, line, row, "requests")
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise fault(table.where, line, f'requests is {shown(value)}, expected a list of names such as ["phone"]')
    for name in value:
        _check_name(table, line, name)
    return list(dict.fromkeys(value))


def _check_name(table: Table, line: int, name: str) -> None:
    """Names stand in those of acts, such as request(area)."""
    check_encodable(table, line, name)
    if not name.strip() or "(" in name or ")" in name:
        raise fault(table.where, line, f"{shown(name)} is no name of a slot; expected letters without brackets")
