"""Dialogues of acts as lines that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlft_cli.task.agenda import Agenda, Move, Offer
from rlft_cli.task.goals import ANY, EMPTY, Acts
from rlft_cli.task.listening import Mind


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the numbers of a dialogue stand for."""

    acts: Acts
    values: Sequence[Sequence[str]]  # of each slot

    def value(self, slot: int, number: int) -> str:
        """A value as it is in the data."""
        if number < 0:
            return {ANY: "any", EMPTY: "?"}[number]
        return self.values[slot][number] if self.values[slot] else "any"

    def inform(self, slot: int, number: int) -> str:
        """A slot with its value."""
        return f"inform({self.acts.slots[slot]}={self.value(slot, number)})"

    def move(self, move: int, asked: int) -> list[str]:
        """A move, or nothing."""
        if move == Move.NONE:
            return []
        return [f"request({self.acts.properties[asked]})" if move == Move.REQUEST else f"{Move(move).name.lower()}()"]


def user_line(names: Names, agenda: Agenda, mind: Mind) -> str:
    """What the only user of ``agenda`` has just said, and what ``mind`` understood, with its trust in all that was heard."""
    said, heard, want, belief = agenda.said, mind.heard, agenda.want[0].tolist(), mind.belief[0].tolist()
    told = names.move(said.move.item(), said.asked.item())
    told += [names.inform(slot, want[slot]) for slot in (said.first.item(), said.second.item()) if slot >= 0]
    known = [f"{move} {heard.trust.item():.2f}" for move in names.move(heard.move.item(), heard.asked.item())]
    for slot in mind.fresh[0].nonzero()[0].tolist():
        known.append(f"{names.inform(slot, belief[slot])} {mind.trust[0, slot]:.2f}")
    return f"user: {', '.join(told) or 'nothing'} [believed: {', '.join(known) or 'nothing heard'}]"


def system_line(names: Names, label: str, mind: Mind, offer: Offer) -> str:
    """The system's act, with the value that it asks to confirm and what it offers."""
    kind, _, slot = label.rstrip(")").partition("(")
    if kind == "confirm":
        at = names.acts.slots.index(slot)
        return f"system: confirm({slot}={names.value(at, mind.belief[0, at].item())})"
    if kind != "offer":
        return f"system: {label}"
    if offer.nothing.item():
        return "system: offer() found nothing"
    values = enumerate(offer.value[0].tolist())
    return "system: offer(" + ", ".join(f"{names.acts.slots[s]}={names.value(s, v)}" for s, v in values) + ")"
