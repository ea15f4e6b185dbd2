"""rlft predict: answer for a text, a file or standard input with a checkpoint."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rlft_cli import artifact, pipeline
from rlft_cli.console import Console
from rlft_cli.data.table import read_text
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.metrics.spans import spans
from rlft_cli.task import Row

WORD = re.compile(r"\w+(?:['’.-]\w+)*|[^\w\s]")  # words with inner marks, and other visible characters one by one
SEED = 1


def run(config: DictConfig, console: Console) -> None:
    """Predict for every input and print or write one answer each."""
    if config.output is not None and Path(config.output).exists():
        raise UsageError(f"output={config.output} exists and is not overwritten; give another name")
    if config.text is not None and config.input is not None:
        raise UsageError("text= and input= are both given; give one of them")
    setup = pipeline.checkpoint_setup(config.checkpoint, config.hardware, SEED)
    form, rows = _read(config, setup.task.rows)
    ids = setup.task.ask(rows)
    answers = setup.evaluator(config.evaluation).predict(setup.policy, ids) if ids else []
    described = [_answer(setup.task.decisions, row, answer) for row, answer in zip(rows, answers, strict=True)]
    conll = form == "conll" and setup.task.decisions == "tags"
    lines = [_conll(d) if conll else json.dumps(d, ensure_ascii=False) for d in described]
    if config.output is not None:
        artifact.write_text(Path(config.output), "".join(line + "\n" for line in lines))
        console.line(f"{len(lines)} predictions written to {config.output}")
    else:
        for line in lines:
            console.output(line)


def _read(config: DictConfig, kind: str) -> tuple[str, list[Row]]:
    """Format and rows of the input; RlftError names file and line of what cannot be read."""
    if config.text is not None:
        return "text", [_row(config.text, kind, "text")]
    if config.input is None and sys.stdin.isatty():
        raise UsageError('give a text (text="..."), a file (input=FILE), or pipe lines into rlft predict')
    path = Path(config.input).expanduser() if config.input is not None else None
    content = read_text(path) if path else sys.stdin.read()
    name = path.name if path else "standard input"
    form = config.format if config.format != "auto" else _format(path, content)
    if form == "conll":
        return form, _conll_rows(content, kind, name)
    lines = [(n, line) for n, line in enumerate(content.split("\n"), start=1) if line.strip()]
    if form == "text":
        return form, [_row(line, kind, f"{name}:{n}") for n, line in lines]
    return form, [_json_row(line, kind, f"{name}:{n}") for n, line in lines]


def _format(path: Path | None, content: str) -> str:
    if path is not None and path.suffix in (".conll", ".bio", ".iob2", ".tsv"):
        return "conll"
    return "jsonl" if content.lstrip().startswith("{") else "text"


def _conll_rows(content: str, kind: str, name: str) -> list[Row]:
    """Sentences of the first column; blank lines end them, further columns are not read."""
    if kind != "tagged_words":
        raise UsageError(f"{name}: CoNLL holds words, and this checkpoint answers whole texts; give format=text or jsonl")
    rows: list[Row] = []
    words: list[str] = []
    for n, line in enumerate([*content.split("\n"), ""], start=1):
        cells = line.rstrip("\r").split("\t" if "\t" in line else None, maxsplit=1) if line.strip() else []
        if cells:
            words.append(cells[0])
        elif words:
            rows.append({"words": words, "tags": [], "origin": f"{name}:{n - len(words)}"})
            words = []
    return rows


def _row(text: str, kind: str, origin: str) -> Row:
    if kind == "tagged_words":
        words = WORD.findall(text)
        if not words:
            raise RlftError(f"{origin}: there is no visible character in {text!r}; give a text with words")
        return {"words": words, "tags": [], "origin": origin}
    if kind == "dialogue":
        return {"turns": [{"role": "user", "content": text}], "origin": origin}
    return {"text": text, "label": "", "origin": origin}


def _json_row(line: str, kind: str, origin: str) -> Row:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise RlftError(f"{origin}: not JSON ({error}); expected one object a line") from error
    if not isinstance(given, dict):
        raise RlftError(f"{origin}: expected a JSON object, found {type(given).__name__}")
    if kind == "tagged_words" and given.get("words"):
        return {"words": [str(word) for word in given["words"]], "tags": [], "origin": origin}
    if kind == "dialogue" and given.get("turns"):
        return {"turns": given["turns"], "origin": origin}
    if isinstance(given.get("text"), str):
        return _row(given["text"], kind, origin)
    wanted = {"tagged_words": "words (a list) or text", "dialogue": "turns or text"}.get(kind, "text")
    raise RlftError(f"{origin}: expected the key {wanted}, found {', '.join(given) or 'none'}")


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
    return {"turns": row["turns"], "reply": answer}


def _conll(described: dict[str, Any]) -> str:
    return "".join(f"{w}\t{t}\n" for w, t in zip(described["words"], described["tags"], strict=True))
