"""Reward functions as users write them, a reward server in a thread, and a small reward model and classifier."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlft_cli import pipeline
from rlft_cli.reward import Reward
from toy_training import config_of

Answer = Callable[[dict[str, Any]], tuple[int, str]]


def _units(item: Any) -> list[str]:
    """Decisions of a prediction: tags, words, or the one label."""
    return item.lower().split() if isinstance(item, str) else list(item)


def agreement(contexts: Any, replies: Any, references: Any) -> list[float]:
    """Part of the words that both have at the same place, of the longer one; 0 for nothing at all."""
    found = []
    for reply, reference in zip(replies, references, strict=True):
        mine, other = _units(reply), _units(reference)
        same = sum(a == b for a, b in zip(mine, other, strict=False))
        found.append(same / max(len(mine), len(other), 1))
    return found


def too_few(contexts: Any, replies: Any, references: Any) -> list[float]:
    return [0.5] * (len(replies) - 1)


def not_a_number(contexts: Any, replies: Any, references: Any) -> list[float]:
    return [0.5, float("nan"), *[0.5] * len(replies)][: len(replies)]


def words(contexts: Any, replies: Any, references: Any) -> Any:
    return ["good"] * len(replies)


def constant(contexts: Any, replies: Any, references: Any) -> list[float]:
    return [0.5] * len(replies)


def letters(contexts: Any, replies: Any, references: Any) -> list[float]:
    """What no context has a part in."""
    return [float(sum(map(ord, reply)) % 7) for reply in replies]


def raises(contexts: Any, replies: Any, references: Any) -> list[float]:
    raise KeyError("tone")


NOT_A_FUNCTION = 3


def agreeing(given: dict[str, Any]) -> tuple[int, str]:
    """The answer of a server that works."""
    return 200, json.dumps({"rewards": agreement(**given)})


@contextmanager
def serving(
    answer: Answer = agreeing, wait: threading.Event | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a server, and the requests that it got; it answers once ``wait`` is set, where given."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if wait is not None:
                wait.wait(5)
            status, text = answer(asked[-1])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a client that went away is no news
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/judge", asked
    finally:
        if wait is not None:
            wait.set()
        server.shutdown()
        thread.join()
        server.server_close()


SMALL = [
    "model=tiny", "model.width=16", "model.layers=1", "model.max_tokens=64", "tuning=full", "hardware=cpu",
    "hardware.precision=fp32", "hardware.threads=1", "data.max_train=24", "data.max_dev=4", "data.max_test=4",
    "data.unseen_labels=drop",
]  # fmt: skip
PREFERENCE = ["task=preference", "task.max_prompt_tokens=40", "task.max_reply_tokens=16"]


def untrained(folder: Path, *words: str) -> Path:
    """The checkpoint of a run before its first step."""
    setup = pipeline.new_setup(config_of(*words, *SMALL))
    folder.mkdir(parents=True)
    setup.save_checkpoint(folder)
    return folder


def option(name: str, **changes: Any) -> Reward:
    """A shipped reward option with some of its keys changed."""
    from rlft_cli.config import config_folder

    loaded = OmegaConf.load(config_folder() / "reward" / f"{name}.yaml")
    beside = OmegaConf.create({"data": {"language": "en"}, "reward": loaded})  # what its YAML refers to
    keys = OmegaConf.to_container(beside.reward, resolve=True)
    reward: Reward = pipeline.build({**keys, **changes})  # type: ignore[dict-item]
    return reward


# -- a function that fails when it is told to ------------------------------------------------------------------------


class Fragile:
    """Agreement, until the call whose number is ``fails_at``."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails_at: int | None = None

    def __call__(self, contexts: Any, replies: Any, references: Any) -> list[float]:
        self.calls += 1
        if self.calls == self.fails_at:
            raise ConnectionError("gone")
        return agreement(contexts, replies, references)


fragile = Fragile()
