"""data=files: formats, splits, subsamples, and every bad input with file and line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rlft_cli.errors import RlftError, UsageError

CONLL = "Anna\tB-PER\nruns\tO\n\nParis\tB-LOC\n"


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def texts(n: int) -> str:
    return jsonl(*[{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(n)])


def say(*contents: str, roles: str = "uauauaua") -> dict[str, object]:
    names = {"u": "user", "a": "assistant", "s": "system"}
    return {"turns": [{"role": names[r], "content": c} for r, c in zip(roles, contents, strict=False)]}


# -- what loads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".conll", ".bio", ".iob2", ".txt", ".tsv"])
def test_conll_by_any_of_its_suffixes(files, folder, suffix: str) -> None:
    splits = files(dir=folder(suffix, CONLL)).load("tagged_words")
    assert splits.train[0] == {"words": ["Anna", "runs"], "tags": ["B-PER", "O"], "origin": f"train{suffix}:1"}
    assert splits.dev[1]["origin"] == f"dev{suffix}:4"
    assert splits.messages == []


@pytest.mark.parametrize("keys", [("words", "tags"), ("tokens", "ner_tags"), ("tokens", "tags")])
def test_tagged_jsonl(files, folder, keys: tuple[str, str]) -> None:
    row = {keys[0]: ["Anna", "runs"], keys[1]: ["B-PER", "O"]}
    splits = files(dir=folder(".jsonl", jsonl(row))).load("tagged_words")
    assert splits.train[0] == {"words": ["Anna", "runs"], "tags": ["B-PER", "O"], "origin": "train.jsonl:1"}


def test_tagged_csv_holds_json_lists(files, folder) -> None:
    text = 'words,tags\n"[""Anna"", ""runs""]","[""B-PER"", ""O""]"\n'
    assert files(dir=folder(".csv", text)).load("tagged_words").train[0]["words"] == ["Anna", "runs"]


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".jsonl", '{"text": "hello", "label": "x"}\n'),
        (".json", '[{"text": "hello", "label": "x"}]'),
        (".csv", "text,label\nhello,x\n"),
        (".tsv", "text\tlabel\nhello\tx\n"),
    ],
)
def test_labelled_text(files, folder, suffix: str, text: str) -> None:
    train = files(dir=folder(suffix, text)).load("labelled_text").train
    assert (train[0]["text"], train[0]["label"]) == ("hello", "x")


def test_column_names_can_be_given(files, folder) -> None:
    where = folder(".jsonl", jsonl({"sentence": "a", "intent": "x"}))
    loaded = files(dir=where, text_column="sentence", label_column="intent")
    assert loaded.load("labelled_text").train[0]["label"] == "x"


def test_numbers_as_labels_become_names(files, folder) -> None:
    splits = files(dir=folder(".jsonl", jsonl({"text": "a", "label": 1}))).load("labelled_text")
    assert splits.train[0]["label"] == "1"
    assert "train.jsonl: 1 labels are numbers and are used as names" in splits.messages


def test_dialogue(files, folder) -> None:
    splits = files(dir=folder(".jsonl", jsonl(say("be kind", "hi", "hello", roles="sua")))).load("dialogue")
    assert [turn["role"] for turn in splits.train[0]["turns"]] == ["system", "user", "assistant"]
    assert splits.train[0]["turns"][2] == {"role": "assistant", "content": "hello"}


def test_three_paths_instead_of_a_folder(files, tmp_path: Path) -> None:
    (tmp_path / "one.conll").write_text(CONLL)
    given = tmp_path / "one.conll"
    assert len(files(train=given, dev=given, test=given).load("tagged_words").test) == 2


def test_a_path_wins_over_the_folder(files, folder, tmp_path: Path) -> None:
    where = folder(".conll", CONLL)
    (tmp_path / "other.conll").write_text("Anna\tB-PER\n")
    assert len(files(dir=where, test=tmp_path / "other.conll").load("tagged_words").test) == 1


@pytest.mark.parametrize("name", ["dev", "valid", "validation", "val", "Dev"])
def test_the_dev_split_has_many_names(files, folder, tmp_path: Path, name: str) -> None:
    where = folder(".conll", CONLL, dev=None)
    (tmp_path / f"{name}.conll").write_text("Anna\tB-PER\n")
    assert len(files(dir=where).load("tagged_words").dev) == 1


def test_files_beside_the_splits_do_not_disturb(files, folder, tmp_path: Path) -> None:
    where = folder(".conll", CONLL)
    for name in ("train.attribution.txt", "unpaired_train.conll", "DATA.md", "train.md"):
        (tmp_path / name).write_text("something")
    assert len(files(dir=where).load("tagged_words").train) == 2


def test_tokens_without_visible_character_are_kept_and_reported(files, folder) -> None:
    splits = files(dir=folder(".conll", "a\tO\n\ufe0f\tO\n\ue401\tO\n\n\x07\tB-X\n")).load("tagged_words")
    assert splits.train[0]["words"] == ["a", "\ufe0f", "\ue401"]
    assert splits.train[1]["words"] == ["\x07"]
    assert "train.conll: 3 tokens without a visible character kept (first: line 2, '\\ufe0f')" in splits.messages


# -- dev from train, subsamples ----------------------------------------------------------------------------------


def test_dev_is_taken_from_train_only_where_there_is_none(files, folder) -> None:
    splits = files(dir=folder(".jsonl", texts(100), dev=None), dev_fraction=0.2).load("labelled_text")
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (80, 20, 100)
    assert splits.messages == ["no dev split: 20 of 100 training examples taken by SHA-256 (data.dev_fraction=0.2)"]
    assert not set(splits.train["text"]) & set(splits.dev["text"])


def test_the_dev_split_does_not_depend_on_the_order_and_keeps_one_text_together(files, folder) -> None:
    lines = (texts(50) + texts(50).upper().replace('"TEXT"', '"text"').replace('"LABEL"', '"label"')).splitlines()
    lines = [line.replace('"A"', '"a"').replace('"B"', '"b"') for line in lines]
    first = files(dir=folder(".jsonl", "\n".join(lines), dev=None)).load("labelled_text")
    random.Random(3).shuffle(lines)
    second = files(dir=folder(".jsonl", "\n".join(lines), dev=None)).load("labelled_text")
    assert sorted(first.dev["text"]) == sorted(second.dev["text"])
    assert len(first.dev) == 10  # 5 of 50 texts, each twice (lower and upper case)
    assert not {t.lower() for t in first.train["text"]} & {t.lower() for t in first.dev["text"]}


def test_one_text_gives_no_dev_split(files, folder) -> None:
    with pytest.raises(RlftError, match=r"has one text only.*data\.dev=FILE"):
        files(dir=folder(".jsonl", texts(1), dev=None)).load("labelled_text")


def test_subsamples_are_fixed_nested_and_in_order(files, folder) -> None:
    where = folder(".jsonl", texts(60))

    def kept(size: int, seed: int) -> list[str]:
        return list(files(dir=where, max_train=size, subsample_seed=seed).load("labelled_text").train["text"])

    assert kept(20, 1) == kept(20, 1)
    assert set(kept(10, 1)) < set(kept(20, 1))
    assert kept(20, 1) != kept(20, 2)
    assert kept(20, 1) == sorted(kept(20, 1), key=lambda text: int(text.split()[1]))
    assert len(kept(60, 1)) == len(kept(99, 1)) == 60


def test_subsamples_of_dev_and_test_and_their_messages(files, folder) -> None:
    splits = files(dir=folder(".jsonl", texts(30)), max_dev=5, max_test=7).load("labelled_text")
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (30, 5, 7)
    assert splits.messages[0] == "dev: 5 of 30 examples (data.max_dev, data.subsample_seed=0)"


def test_a_repeated_text_is_sampled_like_any_other(files, folder) -> None:
    rows = jsonl(*[{"text": "same", "label": "a"}] * 50, *[{"text": f"t{i}", "label": "a"} for i in range(50)])
    train = files(dir=folder(".jsonl", rows), max_train=50).load("labelled_text").train
    assert 10 < list(train["text"]).count("same") < 40


# -- what is refused ---------------------------------------------------------------------------------------------


def refused(source, kind: str, wanted: str) -> None:
    with pytest.raises(RlftError, match=wanted):
        source.load(kind)


def test_neither_folder_nor_files(files) -> None:
    with pytest.raises(UsageError, match=r"data=files needs a folder, data\.dir=FOLDER"):
        files().load("dialogue")


def test_an_unknown_kind_of_rows(files) -> None:
    with pytest.raises(UsageError, match="no data source yields rows of the kind 'pairs'"):
        files(dir="x").load("pairs")


def test_a_missing_folder_names_a_near_one(files, tmp_path: Path) -> None:
    (tmp_path / "wnut17").mkdir()
    refused(files(dir=tmp_path / "wnut71"), "dialogue", r"wnut71: no such file or folder; did you mean .*wnut17\?")


def test_a_missing_file_lists_what_is_there(files, folder) -> None:
    where = folder(".conll", CONLL)
    refused(files(dir=where, dev=where / "zzz"), "tagged_words", r"zzz: no such .* holds: dev\.conll, test\.conll")
    refused(files(dir=where, dev=where / "nowhere" / "x"), "tagged_words", r"holds: dev\.conll")


def test_a_folder_for_a_file_and_the_reverse(files, folder) -> None:
    where = folder(".conll", CONLL)
    refused(files(train=where, test=where), "tagged_words", r"is a folder, expected a file; give data\.dir=")
    refused(files(dir=where / "train.conll"), "tagged_words", r"is a file, expected a folder; give data\.train=")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_folder_without_a_split(files, folder, split: str) -> None:
    where = folder(".conll", CONLL)
    (where / f"{split}.conll").rename(where / "else.conll")
    wanted = rf"no {split} file; expected {split}\.conll.*found:.*else\.conll.*data\.{split}="
    refused(files(dir=where), "tagged_words", wanted)


def test_no_test_file_given(files, folder) -> None:
    refused(files(train=folder(".conll", CONLL) / "train.conll"), "tagged_words", r"add data\.test=FILE")


def test_two_files_for_one_split(files, folder) -> None:
    where = folder(".conll", CONLL)
    (where / "valid.conll").write_text(CONLL)
    wanted = r"dev\.conll, valid\.conll could all be the dev split; name one with data\.dev="
    refused(files(dir=where), "tagged_words", wanted)


def test_a_format_chooses_between_two_files(files, folder) -> None:
    where = folder(".conll", CONLL)
    folder(".jsonl", jsonl({"words": ["x"], "tags": ["O"]}))
    refused(files(dir=where), "tagged_words", r"train\.conll, train\.jsonl could all be the train split")
    assert files(dir=where, format="jsonl").load("tagged_words").train[0]["words"] == ["x"]


def test_a_suffix_that_names_no_format(files, folder) -> None:
    where = folder(".xlsx", CONLL) / "train.xlsx"
    wanted = r"train\.xlsx: \.xlsx names no format; known are .*data\.format"
    refused(files(train=where, test=where), "tagged_words", wanted)
    assert len(files(train=where, test=where, dev=where, format="conll").load("tagged_words").train) == 2


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_an_empty_split(files, folder, split: str) -> None:
    where = folder(".conll", CONLL)
    (where / f"{split}.conll").write_text("\n\n")
    refused(files(dir=where), "tagged_words", rf"{split}\.conll: holds no examples")


@pytest.mark.parametrize(
    ("kind", "row", "wanted"),
    [
        ("dialogue", {"text": "a", "label": "x"}, r"no column turns; found: text, label\. .*fit task=classification"),
        ("labelled_text", {"turns": []}, r"no column text; found: turns\. Rows with turns fit task=dialogue"),
        ("labelled_text", {"tokens": [], "ner_tags": []}, r"fit task=ner"),
        ("tagged_words", {"text": "a", "label": "x"}, r"no column words or tokens; found: text.*task=classification"),
        (
            "labelled_text",
            {"texts": "a", "label": "x"},
            r"no column text; found: texts, label\..*data\.text_column=texts",
        ),
        (
            "labelled_text",
            {"text": "a", "intent": "x"},
            r"no column label; found: text, intent.*data\.label_column=NAME",
        ),
        ("labelled_text", {"source": "a", "target": "x"}, r"found: source, target.*fit task=translation"),
        ("labelled_text", {"question": "a", "answer": "x"}, r"found: question, answer.*fit task=qa_generative"),
        ("dialogue", {"messages": []}, r"no column turns; found: messages.*data\.turns_column="),
    ],
)
def test_rows_of_another_kind_or_column(files, folder, kind: str, row: dict[str, object], wanted: str) -> None:
    refused(files(dir=folder(".jsonl", jsonl(row))), kind, r"train\.jsonl:1: .*" + wanted)


def test_a_row_that_lacks_its_column_is_named(files, folder) -> None:
    where = folder(".jsonl", texts(2) + jsonl({"text": "x"}))
    refused(files(dir=where), "labelled_text", r"train\.jsonl:3: no column label")


def test_conll_for_another_task(files, folder) -> None:
    wanted = r"is read as CoNLL .*fits task=ner; task=classification reads"
    refused(files(dir=folder(".conll", CONLL)), "labelled_text", wanted)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"text": "", "label": "a"}, "the text is empty; .*data.repair=true"),
        ({"text": " \n", "label": "a"}, "the text is empty"),
        ({"text": None, "label": "a"}, "the text is empty"),
        ({"text": 3, "label": "a"}, "text is 3, expected a text"),
        ({"text": "a", "label": None}, "label is None, expected the name of a label"),
        ({"text": "a", "label": 0.5}, "label is 0.5, expected the name of a label"),
        ({"text": "a", "label": ""}, "label is '', expected the name of a label"),
        ({"text": "a\ud83d", "label": "x"}, "half of a surrogate pair"),
    ],
)
def test_bad_texts(files, folder, row: dict[str, object], wanted: str) -> None:
    refused(files(dir=folder(".jsonl", texts(2) + jsonl(row))), "labelled_text", r"train\.jsonl:3: .*" + wanted)


def test_repair_leaves_empty_texts_out(files, folder) -> None:
    text = texts(2) + jsonl({"text": "", "label": "a"})
    splits = files(dir=folder(".jsonl", text, dev=texts(2), test=texts(2)), repair=True).load("labelled_text")
    assert len(splits.train) == 2
    assert splits.messages == ["train.jsonl: repaired 1 times: examples with an empty text are left out"]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"words": [], "tags": []}, "the sentence has no words"),
        ({"words": ["a"], "tags": []}, "has 1 words and 0 tags; each word needs one tag"),
        ({"words": ["a", ""], "tags": ["O", "O"]}, "word 2 is empty"),
        ({"words": "a b", "tags": ["O", "O"]}, "words is 'a b', expected a JSON list"),
        ({"words": ["a"], "tags": [1]}, "tags holds 1, expected strings; numbered tags need their names"),
        ({"words": [None], "tags": ["O"]}, "words holds None, expected strings"),
        ({"words": ["a"], "tags": ["PER"]}, "the tag 'PER' of 'a' has no prefix"),
        ({"words": ["a", "b"], "tags": ["O", "I-X"]}, r"I-X of 'b' \(word 2\) comes after O"),
    ],
)
def test_bad_sentences(files, folder, row: dict[str, object], wanted: str) -> None:
    good = {"words": ["x"], "tags": ["B-X"]}
    refused(files(dir=folder(".jsonl", jsonl(good, row))), "tagged_words", r"train\.jsonl:2: " + wanted)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"turns": []}, "the dialogue has no turns"),
        (say("hi"), "no turn is the assistant's"),
        (say("hi", ""), r"turn 2 \(assistant\) is empty"),
        (say("hi", "there", roles="uu"), "turns 1 and 2 are both of the user; roles must alternate"),
        ({"turns": "hi"}, "turns is 'hi', expected a list"),
        ({"turns": ["hi"]}, "turn 1 has 'hi'; expected role and content"),
        ({"turns": [{"from": "human", "value": "hi"}]}, "turn 1 has from, value; expected role and content"),
        (
            {"turns": [{"role": "Assistant", "content": "hi"}]},
            r"turn 1 has the role 'Assistant'.*did you mean assistant\?",
        ),
        ({"turns": [{"role": "user", "content": 3}]}, "turn 1 has the content 3, expected a text"),
        (say("hi", "x", "y", roles="uas"), r"turn 3 has the role 'system'; .*system only in turn 1"),
    ],
)
def test_bad_dialogues(files, folder, row: dict[str, object], wanted: str) -> None:
    refused(files(dir=folder(".jsonl", jsonl(say("a", "b"), row))), "dialogue", r"train\.jsonl:2: " + wanted)


def test_repair_mends_dialogues_and_counts(files, folder) -> None:
    text = jsonl(say("a", "b", "c", roles="uua"), say("hi"), {"turns": []}, say("a", " ", "b", "c", roles="uaua"))
    where = folder(".jsonl", text, dev=jsonl(say("a", "b")), test=jsonl(say("a", "b")))
    splits = files(dir=where, repair=True).load("dialogue")
    contents = [[turn["content"] for turn in row["turns"]] for row in splits.train]
    assert contents == [["a b", "c"], ["a b", "c"]]
    assert splits.messages == [
        "train.jsonl: repaired 2 times: neighbouring turns of one role are joined",
        "train.jsonl: repaired 1 times: dialogues without a reply are left out",
        "train.jsonl: repaired 1 times: dialogues without turns are left out",
        "train.jsonl: repaired 1 times: empty turns are left out",
    ]


# -- labels that train lacks -------------------------------------------------------------------------------------


def test_an_unseen_label_is_refused_with_file_and_line(files, folder) -> None:
    strange = jsonl({"text": "x", "label": "a"}, {"text": "y", "label": "zz"}, {"text": "z", "label": "zz"})
    where = folder(".jsonl", texts(4), test=strange)
    refused(
        files(dir=where),
        "labelled_text",
        r"test\.jsonl:2: the label 'zz' is in test \(2 examples\) but not in train; .*data\.unseen_labels=drop",
    )


def test_a_small_max_train_is_named_as_the_reason(files, folder) -> None:
    refused(files(dir=folder(".jsonl", texts(4)), max_train=1), "labelled_text", r"a larger data\.max_train, or")


def test_unseen_labels_can_be_dropped(files, folder) -> None:
    strange = jsonl({"text": "x", "label": "a"}, {"text": "y", "label": "zz"})
    splits = files(dir=folder(".jsonl", texts(4), test=strange), unseen_labels="drop").load("labelled_text")
    assert list(splits.test["text"]) == ["x"]
    assert splits.messages == ["test: 1 examples left out, whose labels train lacks: zz"]
    where = folder(".jsonl", texts(4), test=jsonl({"text": "y", "label": "zz"}))
    refused(files(dir=where, unseen_labels="drop"), "labelled_text", r"no example is left in test.*zz")


def test_an_unseen_entity_type(files, folder) -> None:
    where = folder(".conll", CONLL, test="a\tO\n\nb\tB-ORG\n")
    refused(files(dir=where), "tagged_words", r"test\.conll:3: the label 'ORG' is in test \(1 examples\)")
    assert len(files(dir=where, unseen_labels="drop").load("tagged_words").test) == 1


def test_i_tags_alone_do_not_make_a_type_unseen(files, folder) -> None:
    splits = files(dir=folder(".conll", "a\tB-X\n", test="a\tB-X\nb\tI-X\n")).load("tagged_words")
    assert splits.test[0]["tags"] == ["B-X", "I-X"]
