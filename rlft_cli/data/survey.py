"""What a person should know of a data set before training: sizes, lengths, labels, overlap, what a model must cut."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rlft_cli.data import Splits
from rlft_cli.data.bio import is_invalid
from rlft_cli.data.checks import Row, labels_of, text_of
from rlft_cli.data.writing import PAIRS
from rlft_cli.model import Codec

SPLITS = ("train", "dev", "test")
# Chinese is written without blanks, so each of its characters counts as a word.
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\s\u3400-\u9fff\uf900-\ufaff]+")


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Mean, 95 % quantile (the smallest length that 95 % do not exceed) and maximum of some lengths."""

    count: int
    total: int
    mean: float
    p95: int
    longest: int


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Texts of one split that stand in another too; up to three of them as examples."""

    first: str
    second: str
    count: int
    of: int
    examples: list[str]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a task lets a model read, in tokens; None where the task has no such limit."""

    window_tokens: int | None
    windows: int | None
    prompt_tokens: int | None
    reply_tokens: int | None
    context_turns: int | None


def rows_of(splits: Splits) -> dict[str, list[Row]]:
    """Rows of each split as plain lists, read once."""
    return {"train": splits.train.to_list(), "dev": splits.dev.to_list(), "test": splits.test.to_list()}


def lengths(values: Iterable[int]) -> Lengths:
    """Summarise lengths; all zero where there are none."""
    found = sorted(values)
    if not found:
        return Lengths(count=0, total=0, mean=0.0, p95=0, longest=0)
    at = (95 * len(found) + 99) // 100 - 1  # rank ceil(.95 n), from 0
    return Lengths(count=len(found), total=sum(found), mean=sum(found) / len(found), p95=found[at], longest=found[-1])


def word_count(kind: str, row: Row) -> int:
    """Words of a row: as given where they are tagged, else runs without blanks and single Chinese characters."""
    if kind == "tagged_words":
        return len(row["words"])
    if kind in PAIRS:
        return text_words(row["source"], row["target"])
    contents = [turn["content"] for turn in row["turns"]] if "turns" in row else [text_of(kind, row)]
    if kind == "preference":
        contents += [row[key] for key in ("chosen", "rejected") if row[key] is not None]
    return text_words(*contents)


def text_words(*texts: str) -> int:
    """Runs without blanks and single Chinese characters of texts."""
    return sum(len(_WORD.findall(text)) for text in texts)


def label_counts(kind: str, rows: Sequence[Row]) -> Counter[str]:
    """Entities by type, examples by class, or goals by slot and request."""
    if kind == "tagged_words":
        return Counter(tag[2:] for row in rows for tag in row["tags"] if tag.startswith("B-"))
    return Counter(label for row in rows for label in labels_of(kind, row))


def invalid_tags(rows: Sequence[Row]) -> int:
    """Count I- tags that continue no entity (0 after loading, which refuses or repairs them)."""
    return sum(is_invalid(pair, "BIO") for row in rows for pair in pairwise(["O", *row["tags"]]))


def key_of(kind: str, row: Row) -> str:
    """Lower-cased text with single blanks, by which examples count as the same."""
    return " ".join(text_of(kind, row).lower().split())


def overlaps(kind: str, rows: Mapping[str, Sequence[Row]]) -> list[Shared]:
    """Examples of dev and test whose text is in train, and of test whose text is in dev."""
    keys = {split: [key_of(kind, row) for row in rows[split]] for split in SPLITS}
    found = []
    for first, second in (("dev", "train"), ("test", "train"), ("test", "dev")):
        known = set(keys[second])
        same = [key for key in keys[first] if key in known]
        found.append(
            Shared(
                first=first, second=second, count=len(same), of=len(keys[first]), examples=list(dict.fromkeys(same))[:3]
            )
        )
    return found


def repeats(kind: str, rows: Sequence[Row]) -> tuple[int, list[str]]:
    """How many examples repeat an earlier one's text, and up to three of the most repeated texts."""
    counts = Counter(key_of(kind, row) for row in rows)
    often = [key for key, count in counts.most_common(3) if count > 1]
    return len(rows) - len(counts), often


def contradictions(kind: str, rows: Mapping[str, Sequence[Row]]) -> dict[str, list[str]]:
    """Texts that occur with more than one label (or tagging) in all splits together, with what they carry.

    Of preferences: prompts with two replies each of which was preferred to the other, with both.
    """
    seen: dict[str, dict[str, None]] = {}
    for split in SPLITS:
        for row in rows[split]:
            key = key_of(kind, row)
            if kind == "preference":
                if row["chosen"] is None or row["rejected"] is None:
                    continue
                answer = row["chosen"]
                key = " / ".join([key, *sorted((answer, row["rejected"]))])
            else:
                answer = row["label"] if kind == "labelled_text" else " ".join(row["tags"])
            seen.setdefault(key, {})[answer] = None
    return {key: list(answers) for key, answers in seen.items() if len(answers) > 1}


def input_tokens(kind: str, rows: Sequence[Row], codec: Codec) -> list[int]:
    """Model tokens of each sentence or text, with what the model puts around them; rows of words or of a text."""
    around = len(codec.prefix) + len(codec.suffix)
    if kind == "tagged_words":
        vocabulary = list({word for row in rows for word in row["words"]})
        size = dict(zip(vocabulary, map(len, codec.word_pieces(vocabulary)), strict=True))
        return [around + sum(size[word] for word in row["words"]) for row in rows]
    return [around + len(ids) for ids in codec.text_ids([row["text"] for row in rows])]


def reply_tokens(
    kind: str, rows: Sequence[Row], codec: Codec, context_turns: int | None
) -> tuple[list[int], list[int]]:
    """Tokens of each prompt (a source, or the turns before a reply; without the chat template) and of each reply with its end."""
    if kind == "preference":
        return pair_tokens(rows, codec, context_turns)
    if kind in PAIRS:
        sources, targets = (codec.text_ids([row[side] for row in rows]) for side in ("source", "target"))
        return [len(ids) for ids in sources], [len(ids) + 1 for ids in targets]
    contents = list({turn["content"] for row in rows for turn in row["turns"]})
    size = dict(zip(contents, map(len, codec.text_ids(contents)), strict=True))
    prompts, replies = [], []
    for row in rows:
        sizes = [size[turn["content"]] for turn in row["turns"]]
        for n, turn in enumerate(row["turns"]):
            if n and turn["role"] == "assistant":
                prompts.append(sum(sizes[:n] if context_turns is None else sizes[max(0, n - context_turns) : n]))
                replies.append(sizes[n] + 1)
    return prompts, replies


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Comparisons of a split, and judgements of single replies."""

    pairs: int
    good: int  # single replies that were judged good
    bad: int
    chosen: Lengths  # words of the replies that were preferred, or judged good
    rejected: Lengths
    longer: float  # part of the pairs whose preferred reply has more characters: what always taking the longer one gets


def compared(rows: Sequence[Row]) -> Compared:
    """Sizes of preferences, and how far length alone decides them (half of the ties)."""
    pairs = [row for row in rows if row["chosen"] is not None and row["rejected"] is not None]
    sizes = [(len(row["chosen"]), len(row["rejected"])) for row in pairs]
    won = sum((chosen > rejected) + (chosen == rejected) / 2 for chosen, rejected in sizes)
    replies = {key: [row[key] for row in rows if row[key] is not None] for key in ("chosen", "rejected")}
    words = {key: lengths(len(_WORD.findall(text)) for text in texts) for key, texts in replies.items()}
    return Compared(
        pairs=len(pairs),
        good=len(replies["chosen"]) - len(pairs),
        bad=len(replies["rejected"]) - len(pairs),
        chosen=words["chosen"],
        rejected=words["rejected"],
        longer=won / len(pairs) if pairs else 0.0,
    )


def pair_tokens(rows: Sequence[Row], codec: Codec, context_turns: int | None) -> tuple[list[int], list[int]]:
    """Tokens of each prompt (its last turns, without the chat template) and of each reply with its end."""
    replies = [row[key] for row in rows for key in ("chosen", "rejected") if row[key] is not None]
    contents = list({*replies, *(turn["content"] for row in rows for turn in row["turns"])})
    size = dict(zip(contents, map(len, codec.text_ids(contents)), strict=True))
    prompts = [sum(size[turn["content"]] for turn in row["turns"][-(context_turns or 0) :]) for row in rows]
    return prompts, [size[reply] + 1 for reply in replies]
