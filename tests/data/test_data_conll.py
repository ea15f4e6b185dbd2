"""CoNLL files: lines, columns, comments, and every fault with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlft_cli.data.conll import read_conll
from rlft_cli.errors import RlftError


def read(tmp_path: Path, text: str | bytes, token: int | None = None, tag: int | None = None):
    path = tmp_path / "train.conll"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    table = read_conll(path, token, tag)
    return [(line, row["words"], row["tags"]) for line, row in table.rows], table.messages


def test_lines_of_sentences_are_those_of_their_first_token(tmp_path: Path) -> None:
    rows, messages = read(tmp_path, "\n\nAnna\tB-PER\nruns\tO\n\n\nParis\tB-LOC\n")
    assert rows == [(3, ["Anna", "runs"], ["B-PER", "O"]), (7, ["Paris"], ["B-LOC"])]
    assert messages == []


def test_a_last_line_without_line_end_counts(tmp_path: Path) -> None:
    assert read(tmp_path, "a\tO\n\nb\tO")[0] == [(1, ["a"], ["O"]), (3, ["b"], ["O"])]


def test_crlf_and_byte_order_mark_are_tolerated(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "\ufeffAnna\tB-PER\r\n\r\nb\tO\r\n")
    assert rows == [(1, ["Anna"], ["B-PER"]), (3, ["b"], ["O"])]


ODD = ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\u00a0", "\u200b", "\ufe0f", "a\u3000b", "\ufeff", " "]


@pytest.mark.parametrize("token", ODD)
def test_characters_that_unicode_calls_blanks_or_line_ends_stay_in_their_token(tmp_path: Path, token: str) -> None:
    assert read(tmp_path, f"{token}\tO\nb\tO\n{token}\tO\n")[0] == [(1, [token, "b", token], ["O"] * 3)]


@pytest.mark.parametrize("token", ["\u2028", "\x85", "\x1c", "\u00a0", "\u3000"])
def test_the_same_in_files_separated_by_blanks(tmp_path: Path, token: str) -> None:
    assert read(tmp_path, f"{token} O\nb   O\n")[0] == [(1, [token, "b"], ["O", "O"])]


@pytest.mark.parametrize("separator", ["\t", " ", "  "])
def test_the_token_hash_is_not_lost(tmp_path: Path, separator: str) -> None:
    text = f"#{separator}O\n1{separator}O\n#{separator}O\n\n#{separator}O\n#tag{separator}B-X\n"
    rows, messages = read(tmp_path, text)
    assert rows == [(1, ["#", "1", "#"], ["O"] * 3), (5, ["#", "#tag"], ["O", "B-X"])]
    assert messages == []


@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("comment", ["# sent_id = 3", "# id f1423 a b c", "# text"])
def test_comments_before_a_sentence_are_skipped(tmp_path: Path, comment: str, separator: str) -> None:
    rows, messages = read(tmp_path, f"{comment}\na{separator}O\nb{separator}O\n\n{comment}\nc{separator}B-X\n")
    assert rows == [(2, ["a", "b"], ["O", "O"]), (6, ["c"], ["B-X"])]
    assert messages == ["train.conll: 2 comment lines (# ...) skipped"]


def test_a_comment_with_as_many_words_as_columns_is_still_a_comment(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "# id f1423 domain=train\na _ _ O\n# _ _ O\n\n# _ _ O\nb _ _ B-X\n")
    assert [words for _, words, _ in rows] == [["a", "#"], ["#", "b"]]


def test_a_hash_line_without_tag_is_a_fault_and_no_comment(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match=r"train\.conll:4: has 1 column \('#wine'\), the other lines have 2"):
        read(tmp_path, "a\tO\nb\tO\n\n#wine\nc\tO\n")


def test_docstart_separates_and_is_skipped(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n. . O O\n-DOCSTART- -X- -X- O\n\nParis NNP B-NP B-LOC\n"
    rows, messages = read(tmp_path, text)
    assert rows == [(3, ["EU", "."], ["B-ORG", "O"]), (7, ["Paris"], ["B-LOC"])]
    assert "tokens are in column 0 and tags in column 3" in messages[0]
    assert "data.tag_column=2" in messages[0]


def test_a_first_column_of_numbers_holds_no_tokens(tmp_path: Path) -> None:
    rows, messages = read(tmp_path, "1\tAnna\tB-PER\n2\truns\tO\n\n1\tHi\tO\n")
    assert [words for _, words, _ in rows] == [["Anna", "runs"], ["Hi"]]
    assert "tokens are in column 1 and tags in column 2" in messages[0]


def test_tags_may_come_first(tmp_path: Path) -> None:
    rows, messages = read(tmp_path, "B-PER\tAnna\nO\truns\n")
    assert rows == [(1, ["Anna", "runs"], ["B-PER", "O"])]
    assert "tags in column 0" in messages[0]


def test_columns_can_be_given(tmp_path: Path) -> None:
    rows, messages = read(tmp_path, "EU NNP B-NP B-ORG\n. . O O\n", token=1, tag=2)
    assert rows == [(1, ["NNP", "."], ["B-NP", "O"])]
    assert messages == []


def test_a_wrong_column_names_the_columns(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match=r"data\.tag_column=4, but the lines have 4 columns.*0 'EU', 1 'NNP', 2 'B-NP'"):
        read(tmp_path, "EU NNP B-NP B-ORG\n", tag=4)


def test_one_column_cannot_be_both(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match="column 1 cannot hold both tokens and tags"):
        read(tmp_path, "a\tO\n", token=1, tag=1)


def test_a_file_of_one_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match=r"the lines have one column \(0 'Anna,B-PER'\)"):
        read(tmp_path, "Anna,B-PER\nruns,O\n")


def test_ragged_lines_are_named(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match=r"train\.conll:2: has 3 columns \('b', 'X', 'O'\), the other lines have 2"):
        read(tmp_path, "a\tO\nb\tX\tO\nc\tO\n")


def test_an_empty_token_is_named(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match=r"train\.conll:2: the token is empty"):
        read(tmp_path, "a\tO\n\tO\nc\tO\n")


def test_invalid_utf8_names_line_and_byte_offset(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match=r"train\.conll:2: is not UTF-8: byte 0xe9 at byte offset 7; .*iconv"):
        read(tmp_path, b"a\tO\ncaf\xe9\tO\n")


def test_an_empty_file_has_no_sentences(tmp_path: Path) -> None:
    assert read(tmp_path, "") == ([], [])
    assert read(tmp_path, "\n \n") == ([], [])
