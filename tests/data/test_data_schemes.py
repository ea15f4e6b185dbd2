"""Tag schemes: recognised honestly, converted exactly, refused with line and word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlft_cli.data.bio import convert, is_invalid, pairs_of, scheme_of, to_bio
from rlft_cli.errors import RlftError

Spans = list[tuple[int, str]]  # (length, type); type "" stands for O
spans = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["", "A", "B"])), max_size=8)


def bio(found: Spans) -> list[str]:
    return [tag for n, kind in found for tag in (["O"] * n if not kind else [f"B-{kind}"] + [f"I-{kind}"] * (n - 1))]


def iob1(found: Spans) -> list[str]:
    tags, before = [], ""
    for n, kind in found:
        first = f"B-{kind}" if kind and kind == before else f"I-{kind}"
        tags += ["O"] * n if not kind else [first] + [f"I-{kind}"] * (n - 1)
        before = kind
    return tags


def with_ends(found: Spans, begin: str, inside: str, end: str, single: str) -> list[str]:
    tags = []
    for n, kind in found:
        if not kind:
            tags += ["O"] * n
        elif n == 1:
            tags.append(f"{single}-{kind}")
        else:
            tags += [f"{begin}-{kind}"] + [f"{inside}-{kind}"] * (n - 2) + [f"{end}-{kind}"]
    return tags


def converted(sentences: list[list[str]]) -> tuple[str, list[list[str]], int]:
    pairs = pairs_of(sentences)
    scheme = scheme_of(pairs)
    table = {pair: to_bio(pair, scheme) for pair in pairs}
    return scheme, [convert(tags, table) for tags in sentences], sum(is_invalid(pair, scheme) for pair in pairs)


@given(st.lists(spans, max_size=5))
def test_every_scheme_converts_to_the_bio_of_the_same_spans(corpus: list[Spans]) -> None:
    wanted = [bio(found) for found in corpus]
    for letters in ("BIES", "BILU", "BMES"):
        _, tags, invalid = converted([with_ends(found, *letters) for found in corpus])
        assert tags == wanted and invalid == 0
    _, tags, invalid = converted([iob1(found) for found in corpus])
    assert tags == wanted and invalid == 0
    assert converted(wanted) == ("BIO", wanted, 0)


@given(st.lists(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=6), max_size=4))
def test_whatever_is_converted_is_valid_bio(corpus: list[list[str]]) -> None:
    _, tags, _ = converted(corpus)
    assert not any(is_invalid(pair, "BIO") for pair in pairs_of(tags))
    assert [len(t) for t in tags] == [len(t) for t in corpus]
    assert [[x == "O" or x[2:] for x in t] for t in tags] == [[x == "O" or x[2:] for x in t] for t in corpus]


def test_recognition_is_honest() -> None:
    assert scheme_of(pairs_of([["I-A", "I-A", "O", "I-B"]])) == "IOB1"
    assert scheme_of(pairs_of([["I-A", "B-A", "I-A"]])) == "IOB1"
    assert scheme_of(pairs_of([["B-A", "I-A"], ["O", "I-A"]])) == "BIO"  # mixed: faults, not IOB1
    assert scheme_of(pairs_of([["B-A", "B-A"], ["O"]])) == "BIO"
    assert scheme_of(pairs_of([["O", "O"]])) == "BIO"


def test_iob1_files_are_converted_with_a_message(files, folder) -> None:
    splits = files(dir=folder(".conll", "Anna\tI-PER\nLee\tI-PER\nBob\tB-PER\n\nParis\tI-LOC\n")).load("tagged_words")
    assert splits.train[0]["tags"] == ["B-PER", "I-PER", "B-PER"]
    assert splits.train[1]["tags"] == ["B-LOC"]
    assert "train.conll: IOB1 tags converted to BIO (2 tags)" in splits.messages


def test_bioes_files_are_converted_with_a_message(files, folder) -> None:
    splits = files(dir=folder(".conll", "Anna\tB-PER\nLee\tE-PER\nin\tO\nParis\tS-LOC\n")).load("tagged_words")
    assert splits.train[0]["tags"] == ["B-PER", "I-PER", "O", "B-LOC"]
    assert "train.conll: BIOES (or BILOU, BMES) tags converted to BIO (2 tags)" in splits.messages


MIXED = "Anna\tB-PER\nin\tO\nNew\tI-LOC\nYork\tI-LOC\n\nLee\tI-PER\n"


def test_an_i_after_o_is_refused_with_its_line(files, folder) -> None:
    wanted = r"train\.conll:3: I-LOC of 'New' \(word 3\) comes after O, .*\(2 such tags in all\).*data\.repair=true"
    with pytest.raises(RlftError, match=wanted):
        files(dir=folder(".conll", MIXED)).load("tagged_words")


def test_an_i_at_the_start_is_refused_with_its_line(files, folder) -> None:
    text = "Anna\tB-PER\n\nLee\tI-PER\n"
    with pytest.raises(RlftError, match=r"train\.conll:3: I-PER .* comes at the start of the sentence"):
        files(dir=folder(".conll", text)).load("tagged_words")


def test_an_i_after_another_type_is_refused(files, folder) -> None:
    with pytest.raises(RlftError, match=r"train\.conll:2: I-LOC .* comes after B-PER"):
        files(dir=folder(".conll", "Anna\tB-PER\nParis\tI-LOC\n")).load("tagged_words")


def test_repair_turns_such_tags_into_b_and_counts(files, folder) -> None:
    splits = files(dir=folder(".conll", MIXED), repair=True).load("tagged_words")
    assert splits.train[0]["tags"] == ["B-PER", "O", "B-LOC", "I-LOC"]
    assert splits.train[1]["tags"] == ["B-PER"]
    assert "train.conll: repaired 2 tags that continued no entity: now B-" in splits.messages


def test_a_bioes_tag_after_the_end_is_refused(files, folder) -> None:
    with pytest.raises(RlftError, match=r"train\.conll:3: E-PER .* comes after E-PER"):
        files(dir=folder(".conll", "a\tB-PER\nb\tE-PER\nc\tE-PER\n")).load("tagged_words")


@pytest.mark.parametrize("tag", ["PER", "B-", "b-PER", "X-PER", "B_PER", "0"])
def test_a_tag_without_prefix_is_refused_with_its_line(files, folder, tag: str) -> None:
    text = f"Bob\tB-PER\n\nin\tO\nAnna\t{tag}\n"
    with pytest.raises(RlftError, match=rf"train\.conll:4: the tag '{tag}' of 'Anna' has no prefix; expected O, B-"):
        files(dir=folder(".conll", text)).load("tagged_words")
