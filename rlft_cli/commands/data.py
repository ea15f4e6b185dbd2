"""`rlft data`: what is in a data set and what a model will have to cut, before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from rlft_cli.console import Cell, Console
from rlft_cli.data import Splits
from rlft_cli.data import survey as look
from rlft_cli.data.checks import Row
from rlft_cli.data.survey import SPLITS, Limits
from rlft_cli.data.writing import PAIRS
from rlft_cli.errors import RlftError
from rlft_cli.model import Codec, Model
from rlft_cli.pipeline import build, corpus

_LABELS = {"tagged_words": "Entities by type", "labelled_text": "Texts by label", "goals": "Goals by slot and request"}
_SHOWN_LABELS = 40  # longer lists are cut on paper, never in JSON
_UNITS = {
    "tagged_words": "sentences",
    "labelled_text": "texts",
    "dialogue": "dialogues",
    "preference": "comparisons",
    "plain_text": "texts",
    "parallel_text": "sources",
    "text_summary": "sources",
    "question_answer": "questions",
    "goals": "goals",
}


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """One table of the report."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `rlft data` says: tables, plain remarks, and what needs attention."""

    tables: list[ReportTable]
    notes: list[str]
    warnings: list[str]


def run(config: DictConfig, console: Console) -> None:
    """Load the data as training would, and report; RlftError as from loading."""
    task = build(config.task)
    splits = build(config.data).load(task.rows)
    codec, remark = _codec(build(config.model), splits, task.rows)
    found = report(splits, task.rows, limits(config.task), codec)
    for note in remark:
        console.warn(note)
    show(found, console)


def limits(task: DictConfig) -> Limits:
    """Read the token limits among a task's settings."""
    return Limits(
        window_tokens=_setting(task, "max_window_tokens"),
        windows=_setting(task, "max_windows"),
        prompt_tokens=_setting(task, "max_prompt_tokens"),
        reply_tokens=_setting(task, "max_reply_tokens"),
        context_turns=_setting(task, "context_turns"),
    )


def _setting(task: DictConfig, key: str) -> int | None:
    return int(task[key]) if key in task and task[key] is not None else None


def _codec(model: Model, splits: Splits, kind: str) -> tuple[Codec | None, list[str]]:
    """Tokenizer of the model, or why there is none; the report goes on without it."""
    try:
        return model.codec(model.open(), corpus(splits, kind)), []
    except RlftError as problem:
        return None, [f"lengths are in words only, as the model's tokenizer cannot be had: {problem}"]


def report(splits: Splits, kind: str, limit: Limits, codec: Codec | None) -> Report:
    """Survey all splits; tokens and cuts only where there is a codec."""
    rows = look.rows_of(splits)
    found = Report(tables=[_sizes(rows, kind)], notes=list(splits.messages), warnings=[])
    if kind == "dialogue":
        found.tables.append(_replies(rows))
    elif kind == "preference":
        found.tables.append(_compared(rows))
        both = look.contradictions(kind, rows)
        said = f"{len(both)} comparisons are decided both ways" + _examples(list(both)[:3])
        (found.warnings if both else found.notes).append(said)
    elif kind in PAIRS:
        found.tables.append(_sides(rows))
    elif kind != "plain_text":
        found.tables.append(_labels(rows, kind))
    if kind in ("tagged_words", "labelled_text"):
        _same_text_other_label(rows, kind, found)
    if codec is not None and (kind in ("dialogue", "preference") or kind in PAIRS):
        _reply_cuts(rows, kind, codec, limit, found)
    elif codec is not None and kind == "plain_text":
        found.tables.append(_text_tokens(rows, codec))
    elif codec is not None and kind != "goals":
        _windows(rows, kind, codec, limit, found)
    _overlap(rows, kind, found)
    return found


def _sizes(rows: Mapping[str, Sequence[Row]], kind: str) -> ReportTable:
    columns = ["split", _UNITS[kind], "words", "mean words", "95 %", "longest"]
    columns += ["without entity", "invalid BIO"] if kind == "tagged_words" else []
    cells: list[list[Cell]] = []
    for split in SPLITS:
        size = look.lengths(look.word_count(kind, row) for row in rows[split])
        line: list[Cell] = [split, size.count, size.total, round(size.mean, 1), size.p95, size.longest]
        if kind == "tagged_words":
            line += [sum(set(row["tags"]) == {"O"} for row in rows[split]), look.invalid_tags(rows[split])]
        cells.append(line)
    return ReportTable(title="Sizes, and lengths in words", columns=columns, rows=cells)


def _labels(rows: Mapping[str, Sequence[Row]], kind: str) -> ReportTable:
    counts = {split: look.label_counts(kind, rows[split]) for split in SPLITS}
    names = sorted(set().union(*counts.values()), key=lambda name: (-counts["train"][name], name))
    return ReportTable(
        title=f"{_LABELS[kind]} ({len(names)})",
        columns=["label", *SPLITS],
        rows=[[name, *[counts[split][name] for split in SPLITS]] for name in names],
    )


def _replies(rows: Mapping[str, Sequence[Row]]) -> ReportTable:
    cells: list[list[Cell]] = []
    for split in SPLITS:
        turns = [turn for row in rows[split] for turn in row["turns"]]
        replies = [turn["content"] for row in rows[split] for turn in row["turns"][1:] if turn["role"] == "assistant"]
        size = look.lengths(look.word_count("labelled_text", {"text": reply}) for reply in replies)
        first = sum(row["turns"][0]["role"] == "assistant" for row in rows[split])
        last = sum(row["turns"][-1]["role"] == "user" for row in rows[split])
        cells.append([split, len(turns), size.count, round(size.mean, 1), size.p95, size.longest, first, last])
    return ReportTable(
        title="Turns, and replies of the assistant in words",
        columns=["split", "turns", "replies", "mean words", "95 %", "longest", "assistant begins", "user ends"],
        rows=cells,
    )


def _compared(rows: Mapping[str, Sequence[Row]]) -> ReportTable:
    cells: list[list[Cell]] = []
    for split in SPLITS:
        size = look.compared(rows[split])
        words = (round(size.chosen.mean, 1), round(size.rejected.mean, 1))
        cells.append([split, size.pairs, size.good, size.bad, *words, round(size.longer, 3)])
    return ReportTable(
        title="Comparisons, and single replies that were judged; what always taking the longer reply gets right",
        columns=["split", "pairs", "judged good", "judged bad", "mean words chosen", "rejected", "longer is chosen"],
        rows=cells,
    )


def _sides(rows: Mapping[str, Sequence[Row]]) -> ReportTable:
    cells: list[list[Cell]] = []
    for split in SPLITS:
        for side in ("source", "target"):
            size = look.lengths(look.text_words(row[side]) for row in rows[split])
            cells.append([f"{split} {side}s", round(size.mean, 1), size.p95, size.longest])
    columns = ["split", "mean words", "95 %", "longest"]
    return ReportTable(title="Sources, and what is to be written for them, in words", columns=columns, rows=cells)


def _text_tokens(rows: Mapping[str, Sequence[Row]], codec: Codec) -> ReportTable:
    cells: list[list[Cell]] = []
    for split in SPLITS:
        size = look.lengths(map(len, codec.text_ids([row["text"] for row in rows[split]])))
        cells.append([split, size.total, round(size.mean, 1), size.p95, size.longest])
    columns = ["split", "tokens", "mean tokens", "95 %", "longest"]
    return ReportTable(title="Lengths in model tokens; texts are written block by block", columns=columns, rows=cells)


def _windows(rows: Mapping[str, Sequence[Row]], kind: str, codec: Codec, limit: Limits, found: Report) -> None:
    """Add lengths in tokens and how many inputs are read in windows."""
    window = min(limit.window_tokens or codec.max_tokens, codec.max_tokens)
    room = window - len(codec.prefix) - len(codec.suffix)
    cells: list[list[Cell]] = []
    for split in SPLITS:
        tokens = look.input_tokens(kind, rows[split], codec)
        size, longer = look.lengths(tokens), sum(n > window for n in tokens)
        cells.append([split, round(size.mean, 1), size.p95, size.longest, longer])
        if limit.windows is not None and (cut := sum(n - window > (limit.windows - 1) * room for n in tokens)):
            found.warnings.append(
                f"{split}: {cut} texts need more than task.max_windows={limit.windows} windows and lose their end"
            )
    found.tables.append(
        ReportTable(
            title=f"Lengths in model tokens; inputs longer than {window} are read in windows",
            columns=["split", "mean tokens", "95 %", "longest", "windowed"],
            rows=cells,
        )
    )


def _reply_cuts(rows: Mapping[str, Sequence[Row]], kind: str, codec: Codec, limit: Limits, found: Report) -> None:
    """Add lengths of prompts and replies in tokens and how many are cut."""
    prompt_limit, reply_limit = limit.prompt_tokens or codec.max_tokens, limit.reply_tokens or codec.max_tokens
    cells: list[list[Cell]] = []
    for split in SPLITS:
        prompts, replies = look.reply_tokens(kind, rows[split], codec, limit.context_turns)
        for name, sizes, most in (("prompts", prompts, prompt_limit), ("replies", replies, reply_limit)):
            size = look.lengths(sizes)
            cells.append(
                [f"{split} {name}", round(size.mean, 1), size.p95, size.longest, most, sum(n > most for n in sizes)]
            )
    found.tables.append(
        ReportTable(
            title="Lengths in model tokens, instruction and chat template not counted; what is longer than the limit is cut",
            columns=["split", "mean tokens", "95 %", "longest", "limit", "cut"],
            rows=cells,
        )
    )


def _overlap(rows: Mapping[str, Sequence[Row]], kind: str, found: Report) -> None:
    """Add what splits share; a shared text makes the scores of a split too good."""
    cells: list[list[Cell]] = []
    for shared in look.overlaps(kind, rows):
        cells.append([f"{shared.first} in {shared.second}", shared.count, shared.of])
        if shared.count:
            said = f"{shared.count} of {shared.of} {_UNITS[kind]} of {shared.first} are in {shared.second} too"
            found.warnings.append(said + _examples(shared.examples))
    title = "Overlap (same text, lower-cased)"
    found.tables.append(ReportTable(title=title, columns=["split", "shared", "of"], rows=cells))
    count, often = look.repeats(kind, rows["train"])
    found.notes.append(f"train: {count} {_UNITS[kind]} repeat the text of an earlier one" + _examples(often))


def _same_text_other_label(rows: Mapping[str, Sequence[Row]], kind: str, found: Report) -> None:
    several = look.contradictions(kind, rows)
    what = "with more than one label" if kind == "labelled_text" else "tagged in more than one way"
    named = [
        _quoted(key) + (f" ({' / '.join(answers)})" if kind == "labelled_text" else "")
        for key, answers in list(several.items())[:3]
    ]
    said = f"{len(several)} texts occur {what}" + (f", e.g. {', '.join(named)}" if named else "")
    (found.warnings if several else found.notes).append(said)


def _examples(texts: Sequence[str]) -> str:
    return f", e.g. {', '.join(map(_quoted, texts))}" if texts else ""


def _quoted(text: str) -> str:
    """Quote a text of the data, cut; control characters are escaped, so that data cannot drive a terminal."""
    cut = text if len(text) <= 80 else text[:77] + "..."
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut) + '"'


def show(found: Report, console: Console) -> None:
    """Print a report; long lists of labels are cut to the most and the least frequent."""
    for table in found.tables:
        rows = table.rows
        if len(rows) > _SHOWN_LABELS and console.mode != "json":
            half = _SHOWN_LABELS // 2
            between: list[Cell] = [f"... {len(rows) - _SHOWN_LABELS} more", *[None] * (len(table.columns) - 1)]
            rows = [*rows[:half], between, *rows[-half:]]
        console.table(table.title, table.columns, rows)
    for note in found.notes:
        console.line(note)
    for warning in found.warnings:
        console.warn(warning)
