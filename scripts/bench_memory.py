"""How much memory the replay takes: bytes for a million sentences, shown on as many as are asked for.

python scripts/bench_memory.py                       # 50,000 sentences of 20 words, a few seconds
python scripts/bench_memory.py --sentences 1000000   # the whole, about a minute
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from rlft_cli.episode import blank
from rlft_cli.memory.replay import Replay
from rlft_cli.ring import DECISION

LIMIT = 1 << 30  # bytes, for a million sentences
BATCH = 1000


def resident_bytes() -> int:
    """Memory of this process that is in use now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def fill(memory: Replay, sentences: int, words: int) -> None:
    """Store sentences of ``words`` words on average, from half to one and a half times as many."""
    generator = torch.Generator().manual_seed(1)
    for first in range(0, sentences, BATCH):
        length = torch.randint(words // 2, words + words // 2 + 1, (BATCH,), generator=generator)
        mask = torch.arange(int(length.max()))[None, :] < length[:, None]
        action = torch.randint(9, mask.shape, generator=generator)
        known = blank({"id": torch.arange(first, first + BATCH)}, action, mask)
        earned = torch.rand(mask.shape, generator=generator)
        memory.add(replace(known, reward=earned, log_prob=-earned), (length + 2).tolist())


def main() -> None:
    """Fill a replay memory and print what it took; exit status 1 where a million sentences would not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=50_000, help="stored and measured; a multiple of 1000")
    parser.add_argument("--words", type=int, default=20, help="of a sentence, on average")
    given = parser.parse_args()
    memory = Replay(capacity=given.sentences, warmup_episodes=1, replay_ratio=1)
    fill(Replay(capacity=BATCH, warmup_episodes=1, replay_ratio=1), BATCH, given.words)  # what torch loads once
    before, clock = resident_bytes(), time.perf_counter()
    fill(memory, given.sentences, given.words)
    taken, seconds = resident_bytes() - before, time.perf_counter() - clock
    million = taken / given.sentences * 1e6
    print(
        json.dumps(
            {
                "sentences": given.sentences,
                "words_per_sentence": given.words,
                "bytes_per_decision_stored": DECISION.itemsize,
                "bytes_per_sentence": round(taken / given.sentences, 1),
                "a_million_sentences_gib": round(million / LIMIT, 3),
                "seconds": round(seconds, 2),
                "drawn": list(memory.sample(512, 64, torch.Generator().manual_seed(1)).action.shape),
            }
        )
    )
    if million > LIMIT:
        raise SystemExit(f"a million sentences would take {million / LIMIT:.2f} GiB, more than 1")


if __name__ == "__main__":
    main()
