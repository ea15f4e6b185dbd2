"""rlft predict: answer for a text, a file or standard input with a checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rlft_cli import artifact, durable, pipeline
from rlft_cli.console import Console
from rlft_cli.data.questions import form_of, question, questions
from rlft_cli.data.table import decoded, read_text
from rlft_cli.errors import UsageError
from rlft_cli.metrics.spans import spans
from rlft_cli.task import Row

STANDARD_INPUT = Path("standard input")  # its name in messages
SEED = 1


def run(config: DictConfig, console: Console) -> None:
    """Predict for every input and print or write one answer each."""
    output = artifact.new_file("output", config.output)
    if config.text is not None and config.input is not None:
        raise UsageError("text= and input= are both given; give one of them")
    setup = pipeline.checkpoint_setup(config.checkpoint, config.hardware, SEED)
    pipeline.decode_with(setup, config)
    form, rows = _read(config, setup.task.rows)
    ids = setup.task.ask(rows)
    answers = setup.evaluator(config.evaluation).predict(setup.policy, ids) if ids else []
    described = [_answer(setup.task.decisions, row, answer) for row, answer in zip(rows, answers, strict=True)]
    conll = form == "conll" and setup.task.decisions == "tags"
    lines = [_conll(d) if conll else json.dumps(d, ensure_ascii=False) for d in described]
    if output is not None:
        durable.write_text(output, "".join(line + "\n" for line in lines))
        console.line(f"{len(lines)} predictions written to {output}", predictions=len(lines), output=str(output))
    else:
        for line in lines:
            console.output(line)


def _read(config: DictConfig, kind: str) -> tuple[str, list[Row]]:
    """Format and rows of the input; RlftError names file and line of what cannot be read."""
    if config.text is not None:
        return "text", _of_text(config.text, kind)
    if config.input is None and sys.stdin.isatty():
        raise UsageError('give a text (text="..."), a file (input=FILE), or pipe lines into rlft predict')
    path = Path(config.input).expanduser() if config.input is not None else STANDARD_INPUT
    content = read_text(path) if config.input is not None else _standard_input()
    form = config.format if config.format != "auto" else form_of(path, content, kind)
    return form, questions(path, content, form, kind)


def _of_text(text: str, kind: str) -> list[Row]:
    """The one row of ``text=``, line ends and all."""
    if not text.strip():
        raise UsageError('text= is empty; give a text with words: text="Angela Merkel visited Paris"')
    if any("\ud800" <= character <= "\udfff" for character in text):  # how Python shows bytes that are not UTF-8
        raise UsageError("text= is not UTF-8; type it in UTF-8, or put it into a file: input=FILE")
    return [question(Path("text"), 1, text, kind)]


def _standard_input() -> str:
    convert = "iconv -f latin1 -t utf-8 FILE | rlft predict checkpoint=..."
    return decoded(sys.stdin.buffer.read(), str(STANDARD_INPUT), convert)


def _answer(decisions: str, row: Row, answer: Any) -> dict[str, Any]:
    """One answer as a JSON object."""
    if decisions == "tags":
        words = row["words"]
        found = [
            {"text": " ".join(words[start:end]), "type": kind, "start": start, "end": end}
            for start, end, kind in sorted(spans(answer, mode="strict"))
        ]
        return {"words": words, "tags": answer, "entities": found}
    if decisions == "classes":
        return {"text": row["text"], "label": answer}
    if decisions == "pairs":
        shown = {key: row[key] for key in ("turns", "chosen", "rejected")}
        if row["chosen"] is not None and row["rejected"] is not None:
            return {**shown, "preferred": "chosen" if answer["preferred"] == "first" else "rejected"}
        return {**shown, "good": answer["preferred"] == "first"}
    if decisions == "acts":
        return {"constraints": {one["slot"]: one["value"] for one in row["constraints"]}, "outcome": answer}
    asked: dict[str, Any] = {key: row[key] for key in ("turns", "source", "text") if key in row}
    return {**asked, "reply": answer}


def _conll(described: dict[str, Any]) -> str:
    return "".join(f"{w}\t{t}\n" for w, t in zip(described["words"], described["tags"], strict=True))
