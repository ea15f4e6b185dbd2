"""Rows of words and tags: any tag scheme into BIO, every fault named with its line."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from typing import Any

from rlft_cli.data.bio import Pair, Scheme, convert, is_invalid, is_tag, pairs_in, pairs_of, scheme_of, to_bio
from rlft_cli.data.checks import ColumnNames, Leftovers, Row, check_encodable, column_of, invisible_message
from rlft_cli.data.table import Table, fault, shown
from rlft_cli.errors import RlftError


def tagged_words(table: Table, names: ColumnNames, repair: bool) -> tuple[list[Row], list[str]]:
    """Check rows {"words", "tags"} and convert the tags to BIO; RlftError names file, line and word."""
    left = Leftovers(table, repair)
    sentences = [read for line, row in table.rows if (read := _sentence(table, names, line, row, left)) is not None]
    pairs = pairs_of(tags for _, _, tags in sentences)
    bad = {tag for _, tag in pairs if not is_tag(tag)}
    if bad:
        raise _without_prefix(table, sentences, bad)
    scheme = scheme_of(pairs)
    invalid = sum(count for pair, count in pairs.items() if is_invalid(pair, scheme))
    if invalid and not repair:
        raise _invalid(table, sentences, scheme, invalid)
    changes = {pair: to_bio(pair, scheme) for pair in pairs}
    if any(new != tag for (_, tag), new in changes.items()):
        sentences = [(line, words, convert(tags, changes)) for line, words, tags in sentences]
    rows = [{"words": w, "tags": t, "origin": f"{table.name}:{line}"} for line, w, t in sentences]
    return rows, left.messages() + _messages(table, pairs, changes, scheme, invalid) + _hidden(table, sentences)


_Sentence = tuple[int, list[str], list[str]]


def _sentence(table: Table, names: ColumnNames, line: int, row: Row, left: Leftovers) -> _Sentence | None:
    if table.per_word:  # CoNLL: made by our own reader, two lists of strings of one length, never empty
        return line, row["words"], row["tags"]
    words_names = (names.words,) if names.words else ("words", "tokens")
    tags_names = (names.tags,) if names.tags else ("tags", "ner_tags")
    words_name = column_of(table, "tagged_words", "words_column", words_names, row, line)
    tags_name = column_of(table, "tagged_words", "tags_column", tags_names, row, line)
    words = _strings(table, line, words_name, row[words_name])
    tags = _strings(table, line, tags_name, row[tags_name])
    if len(words) != len(tags):
        counts = f"has {len(words)} {words_name} and {len(tags)} {tags_name}"
        raise fault(table.where, line, f"{counts}; each word needs one tag")
    if not words:
        left.settle(line, "the sentence has no words", "sentences without words are left out")
        return None
    if "" in words:
        raise fault(table.where, line, f"word {words.index('') + 1} is empty; give it, or remove it and its tag")
    check_encodable(table, line, "".join(words) + "".join(tags))
    return line, words, tags


def _strings(table: Table, line: int, name: str, value: Any) -> list[str]:
    if isinstance(value, str):  # a CSV cell holds its list as JSON
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise fault(
                table.where, line, f'{name} is {shown(value)}, expected a JSON list such as ["Paris", "burns"]'
            ) from error
    if not isinstance(value, list):
        raise fault(table.where, line, f"{name} is {shown(value)}, expected a list of strings")
    odd = next((v for v in value if not isinstance(v, str)), None)
    if odd is not None or None in value:
        hint = "; numbered tags need their names: write them out, or data=hub for a set with named features"
        raise fault(table.where, line, f"{name} holds {shown(odd)}, expected strings" + hint * isinstance(odd, int))
    return value


def _place(table: Table, line: int, k: int) -> int:
    return line + k if table.per_word else line


def _without_prefix(table: Table, sentences: list[_Sentence], bad: set[str]) -> RlftError:
    line, words, tags = next(s for s in sentences if not bad.isdisjoint(s[2]))
    k = next(k for k, tag in enumerate(tags) if tag in bad)
    columns = "; if tags stand in another column, data.tag_column=N (counted from 0)" if table.per_word else ""
    return fault(
        table.where,
        _place(table, line, k),
        f"the tag {shown(tags[k])} of {shown(words[k])} has no prefix; expected O, B-TYPE or I-TYPE{columns}",
    )


def _invalid(table: Table, sentences: list[_Sentence], scheme: Scheme, count: int) -> RlftError:
    for line, words, tags in sentences:
        for k, pair in enumerate(pairs_in(tags)):
            if is_invalid(pair, scheme):
                before = f"after {pair[0]}" if k else "at the start of the sentence"
                rest = f" ({count} such tags in all)" if count > 1 else ""
                return fault(
                    table.where,
                    _place(table, line, k),
                    f"{tags[k]} of {shown(words[k])} (word {k + 1}) comes {before}, so it continues no "
                    f"entity{rest}; correct it, or data.repair=true turns such tags into B-",
                )
    raise AssertionError("counted an invalid pair that no sentence has")


def _messages(table: Table, pairs: Counter[Pair], changes: dict[Pair, str], scheme: Scheme, invalid: int) -> list[str]:
    changed = sum(count for pair, count in pairs.items() if changes[pair] != pair[1])
    found = []
    if scheme != "BIO":
        name = "BIOES (or BILOU, BMES)" if scheme == "BIOES" else scheme
        found.append(f"{table.name}: {name} tags converted to BIO ({changed} tags)")
    if invalid:
        found.append(f"{table.name}: repaired {invalid} tags that continued no entity: now B-")
    return found


def _hidden(table: Table, sentences: list[_Sentence]) -> list[str]:
    def line_of(text: str) -> int:
        return next(_place(table, line, words.index(text)) for line, words, _ in sentences if text in words)

    return invisible_message(table.name, "tokens", chain.from_iterable(words for _, words, _ in sentences), line_of)
