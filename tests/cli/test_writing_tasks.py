"""The tasks of writing as a user meets them: look at the data, train, measure, ask; in Chinese with its own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TINY = ("hardware=cpu", "hardware.threads=1", "evaluation.bootstrap=10", "console=json")
CHINESE = [
    ("I like cats.", "我喜欢猫。"),
    ("I like dogs.", "我喜欢狗。"),
    ("He likes books.", "他喜欢书。"),
    ("She drinks tea.", "她喝茶。"),
    ("We drink water.", "我们喝水。"),
    ("He reads a book.", "他看书。"),
    ("It rains today.", "今天下雨。"),
    ("It snows today.", "今天下雪。"),
]


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def write(folder: Path, content: list[dict[str, str]]) -> Path:
    folder.mkdir()
    for split in ("train", "dev", "test"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_chinese_from_end_to_end(rlft: Any, here: Path) -> None:
    """An LSTM with words by jieba learns eight lines by heart; eval, predict and the report know that they are Chinese."""
    pytest.importorskip("jieba")
    folder = write(here / "zh", [{"source": a, "target": b} for a, b in CHINESE])
    data = ("data=files", f"data.dir={folder}", "data.language=zh")
    done = rlft(
        "train", "task=translation", "algo=supervised", "model=lstm", "tuning=full", *TINY, *data, "run_dir=run",
        "task.instruction=''", "model.min_count=1", "model.dropout=0", "model.hidden_width=64", "model.embedding_width=32",
        "passes=60", "optim.lr=1e-2", "optim.head_lr=1e-2", "selection.by=last", "selection.every_passes=60",
    )  # fmt: skip
    assert done.status == 0, done
    result = json.loads(Path("run/result.json").read_text(encoding="utf-8"))
    assert "tok:zh" in result["signatures"]["bleu"] and "tok:char" in result["signatures"]["rouge_l"]
    assert result["test"]["bleu"]["value"] > 90 and result["test"]["reply_length"]["value"] > 4
    measured = rlft("eval", "checkpoint=run", *TINY, *data)
    assert measured.status == 0 and "bleu" in measured.out
    (answer,) = rows(rlft("predict", "checkpoint=run", "text=I like cats.").out)
    assert answer == {"source": "I like cats.", "reply": "我喜欢猫。"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "asked", "key"),
    [
        ("qa_generative", "tiny_t5", {"question": "Who sings?", "context": "Anna sings."}, "source"),
        ("language_modeling", "tiny", {"text": "The library opens"}, "text"),
        ("summarisation", "tiny_t5", {"source": "Anna sings. Bob listens."}, "source"),
    ],
)
def test_every_verb_knows_the_task(
    rlft: Any, here: Path, task: str, model: str, asked: dict[str, str], key: str
) -> None:
    """On the packaged sample, which needs no file."""
    small = (
        "data.max_train=8",
        "data.max_dev=3",
        "data.max_test=3",
        "task.max_prompt_tokens=64",
        "task.max_reply_tokens=6",
    )
    looked = rlft("data", f"task={task}", f"model={model}", *small[3:], "console=json")
    assert looked.status == 0 and rows(looked.out), looked
    done = rlft(
        "train", f"task={task}", "algo=reinforce", f"model={model}", "tuning=lora", "passes=0.5", *TINY, *small,
        "warm_start.passes=1", "run_dir=run",
    )  # fmt: skip
    assert done.status == 0, done
    result = json.loads(Path("run/result.json").read_text(encoding="utf-8"))
    assert result["test"]["perplexity"]["value"] > 1 and result["test"]["log_likelihood"]["value"] < 0
    assert rlft("eval", "checkpoint=run", *TINY).status == 0
    Path("q.jsonl").write_text(json.dumps(asked))
    (answer,) = rows(rlft("predict", "checkpoint=run", "input=q.jsonl").out)
    assert set(answer) == {key, "reply"} and next(iter(asked.values())) in answer[key]


def test_a_log_of_blocks_is_refused(rlft: Any, here: Path) -> None:
    done = rlft(
        "train", "task=language_modeling", "algo=supervised", "model=tiny", "tuning=full", *TINY, "passes=0", "run_dir=run",
        "data.max_train=4", "data.max_dev=2", "data.max_test=2", "task.max_prompt_tokens=32", "task.max_reply_tokens=4",
    )  # fmt: skip
    assert done.status == 0, done
    done = rlft("simulate-logs", "checkpoint=run", "output=log.jsonl", "hardware=cpu")
    done.refused(2, "which a log cannot show again token by token")
