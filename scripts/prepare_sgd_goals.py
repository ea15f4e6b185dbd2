"""Makes the goals of one service of Schema-Guided Dialogue (Rastogi et al. 2020) for task=goal_dialogue.

    git clone https://github.com/google-research-datasets/dstc8-schema-guided-dialogue SGD
    python scripts/prepare_sgd_goals.py SGD OUT --service Restaurants_1 --without restaurant_name
    rlft train task=goal_dialogue algo=dqn data=files data.dir=OUT

A goal is what the user of one dialogue had told by its end (the last dialogue state, in the order in which slots were first
mentioned) and asked for; --without names slots that tell what was offered. The service's dialogues of all parts of SGD are
split anew, by SHA-256 of their ids: 75 % train, 10 % dev, 15 % test. SGD is CC BY-SA 4.0, and so is what comes out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPLITS = ((0.75, "train"), (0.85, "dev"), (1.0, "test"))


def goals(dialogue: dict[str, Any], service: str, without: set[str]) -> dict[str, Any] | None:
    """Constraints and requests of a dialogue's user; None where the service is not used or nothing is constrained."""
    values: dict[str, str] = {}
    asked: dict[str, None] = {}
    for turn in dialogue["turns"]:
        for frame in turn["frames"]:
            if turn["speaker"] == "USER" and frame["service"] == service:
                values |= {slot: some[0] for slot, some in frame["state"]["slot_values"].items() if slot not in without}
                asked |= dict.fromkeys(frame["state"]["requested_slots"])
    if not values:
        return None
    return {"constraints": values, "requests": [name for name in asked if name not in values and name not in without]}


def dialogues(folder: Path) -> Iterator[dict[str, Any]]:
    """Every dialogue of all parts."""
    for file in sorted(folder.glob("*/dialogues_*.json")):
        yield from json.loads(file.read_text(encoding="utf-8"))


def split_of(name: str) -> str:
    """Part that a dialogue belongs to, by its id alone."""
    place = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
    return next(split for end, split in SPLITS if place < end)


def main() -> None:
    """Write train.jsonl, dev.jsonl and test.jsonl."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sgd", type=Path, help="folder of the SGD repository, with train/, dev/ and test/")
    parser.add_argument("out", type=Path, help="folder to write to; it is made")
    parser.add_argument("--service", default="Restaurants_1", help="name of the service; default: %(default)s")
    parser.add_argument("--without", nargs="*", default=[], help="slots to leave out")
    given = parser.parse_args()
    lines: dict[str, list[str]] = {split: [] for _, split in SPLITS}
    for dialogue in dialogues(given.sgd):
        goal = goals(dialogue, given.service, set(given.without))
        if goal is not None:
            name = dialogue["dialogue_id"]
            lines[split_of(name)].append(json.dumps(goal, ensure_ascii=False))
    if not all(lines.values()):
        parser.error(f"{given.sgd} has too few dialogues of {given.service} for three splits")
    given.out.mkdir(parents=True, exist_ok=True)
    for split, some in lines.items():
        (given.out / f"{split}.jsonl").write_text("\n".join(some) + "\n", encoding="utf-8")
        print(f"{split}: {len(some)} goals")


if __name__ == "__main__":
    main()
