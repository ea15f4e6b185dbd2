"""rlft chat: history, commands, what /why tells, and how it is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlft_cli.console import Console
from rlft_cli.conversation import Conversation
from rlft_cli.episode import demonstrate
from rlft_cli.explore.sample import Sample
from rlft_cli.pipeline import build, checkpoint_setup
from rlft_cli.returns import action_log_prob

CPU = ("hardware=cpu", "hardware.threads=1", "hardware.precision=fp32")
HARDWARE = {"_target_": "rlft_cli.hardware.Hardware", "device": "cpu", "precision": "fp32", "threads": 1}
ASKED = ("how is Paris on day 3", "how is Rome on day 4")


def rows(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def conversation(run: Path, **changes: Any) -> Conversation:
    setup = checkpoint_setup(str(run), HARDWARE, 1)
    given: dict[str, Any] = {
        "task": setup.task,
        "policy": setup.policy.eval(),
        "explore": Sample(temperature=0.7, top_k=0, top_p=0.9),
        "values": lambda scores: scores,
        "max_reply_tokens": 8,
        "device": torch.device("cpu"),
        "autocast": setup.accelerator.autocast,
        "generator": torch.Generator().manual_seed(3),
    }
    return Conversation(**(given | changes))


def test_it_answers_as_predict_does_and_keeps_the_history(rlft: Any, world: Path, here: Path) -> None:
    run = world / "dialogue_run"
    typed = "\n".join(
        [ASKED[0], "", ASKED[1], "/reset", ASKED[1]]
    )  # the input ends without a line end and without /quit
    done = rlft("chat", f"checkpoint={run}", "temperature=0", "console=json", *CPU, stdin=typed.encode())
    assert (done.status, done.err) == (0, "")
    replies = [row["reply"] for row in rows(done.out) if "reply" in row]
    turns = [{"role": "user", "content": ASKED[0]}]
    turns += [{"role": "assistant", "content": replies[0]}, {"role": "user", "content": ASKED[1]}]
    asked = [{"turns": turns[:1]}, {"turns": turns}, {"turns": turns[2:]}]
    lines = "\n".join(json.dumps(row) for row in asked).encode()
    predicted = rlft("predict", f"checkpoint={run}", *CPU, stdin=lines)
    assert replies == [row["reply"] for row in rows(predicted.out)]
    assert replies[1] != "" and len(replies) == 3


def test_the_commands(rlft: Any, world: Path) -> None:
    typed = f"/why\n{ASKED[0]}\n/why\n/wyh\n/help\n/quit\n{ASKED[1]}\n".encode()
    done = rlft("chat", f"checkpoint={world / 'dialogue_run'}", "console=plain", "reward=constant", *CPU, stdin=typed)
    assert (done.status, done.err) == (0, "")
    assert "there is no reply yet" in done.out and "did you mean /why?" in done.out and "/reset   forget" in done.out
    assert "probability" in done.out and "reward 1\n" in done.out
    assert done.out.count("the last reply, token by token") == 1, "nothing is answered after /quit"


def test_why_tells_the_probabilities_of_the_policy(world: Path) -> None:
    """The product of the tokens' probabilities is that of one forward pass; what was sampled from is the truncated one."""
    talk = conversation(world / "dialogue_run")
    pieces = list(talk.answer(ASKED[0]))
    assert "".join(pieces).strip() == talk.text.strip() == talk.turns[-1]["content"]
    action, mask = torch.tensor([[spoken.id for spoken in talk.spoken]]), torch.ones(1, len(talk.spoken)).bool()
    with torch.no_grad():
        known = demonstrate(talk.task, talk.task.collate([talk.asked]))
        scores = talk.policy(known.observation, action).scores
    told = torch.tensor([spoken.probability for spoken in talk.spoken]).log()
    assert (told - action_log_prob(scores, action)[0]).abs().max() < 1e-5
    sampled = torch.tensor([spoken.sampled_with for spoken in talk.spoken]).log()
    assert (sampled - action_log_prob(talk.explore.warp(scores), action)[0]).abs().max() < 1e-5
    assert all(spoken.likeliest[0][1] >= spoken.probability - 1e-7 for spoken in talk.spoken)
    assert talk.judged(lambda action, mask, batch: mask.float()) == len(talk.spoken) and bool(mask.all())


def test_a_reply_is_as_long_as_asked(world: Path) -> None:
    talk = conversation(world / "dialogue_run", max_reply_tokens=2)
    "".join(talk.answer(ASKED[0]))
    assert len(talk.spoken) == 2 and talk.ended() == "length"


def test_no_part_of_a_stop_string_is_shown(world: Path) -> None:
    talk = conversation(world / "dialogue_run")
    "".join(talk.answer(ASKED[0]))
    words = talk.turns[-1]["content"].split()
    assert len(words) > 2
    stop = " ".join(words[1:3])
    setup = checkpoint_setup(str(world / "dialogue_run"), HARDWARE, 1)
    setup.config.task.stop = [stop]
    task = build(setup.config.task).build([], setup.task.codec)
    again = conversation(world / "dialogue_run", task=task)
    assert "".join(again.answer(ASKED[0])).strip() == words[0]
    assert again.ended() == "stop" and again.turns[-1]["content"] == words[0]


def test_wrong_use_is_refused(rlft: Any, world: Path) -> None:
    talk = ("chat", f"checkpoint={world / 'dialogue_run'}", *CPU)
    rlft("chat", f"checkpoint={world / 'ner_run'}", *CPU).refused(2, "is of task=ner", "rlft predict")
    rlft(*talk, "max_reply_tokens=500").refused(2, "max_reply_tokens=500", "lower it")
    rlft(*talk, "reward=rouge_l").refused(2, "against a reference")  # in the language of the checkpoint
    rlft(*talk, stdin=b"caf\xe9\n").refused(1, "not UTF-8")


def test_ctrl_c_stops_a_reply_and_then_leaves(rlft: Any, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter([ASKED[0], ASKED[1]])

    def ask(console: Console, prompt: str) -> str:
        line = next(typed, None)
        if line is None:
            raise KeyboardInterrupt
        return line

    def answer(talk: Conversation, text: str) -> Iterator[str]:
        yield "It is"
        if text == ASKED[0]:
            raise KeyboardInterrupt
        talk.turns = [{"role": "assistant", "content": text}]

    monkeypatch.setattr(Console, "ask", ask)
    monkeypatch.setattr(Conversation, "answer", answer)
    monkeypatch.setattr(Conversation, "ended", lambda talk: "eos")
    done = rlft("chat", f"checkpoint={world / 'dialogue_run'}", "console=plain", *CPU)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[1:] == [
        "It is", "stopped; what you typed last, and this reply, are not part of the conversation", "It is",
    ]  # fmt: skip
