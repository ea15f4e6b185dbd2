"""The codec of the LSTM: a vocabulary of whole words counted in the training texts; Chinese is segmented by jieba."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlft_cli.errors import RlftError

PAD, UNK, EOS, USER, ASSISTANT = SPECIAL_TOKENS = ("<pad>", "<unk>", "<eos>", "<user>", "<assistant>")
_WORD = "\\d+(?:[.,:]\\d+)+|\\w+(?:['\u2019\\-]\\w+)*|[^\\w\\s]"  # 3.50, don't, check-in, and each other mark alone
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HAN_RUN = re.compile(f"[{_HAN}]+")
_WIDE = re.compile(rf"[{_HAN}\u3000-\u303f\uff00-\uffef]")  # Chinese characters and marks
_CLOSING = set(",.!?;:%)]}'\"\u2026\u2019\u201d")  # no blank before these
_OPENING = set("([{$£€#@\u201c\u2018¿¡")  # no blank after these


class LstmCodec:
    """Words as ids; the tokenizer is WordLevel, and Chinese is segmented before it."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.prefix: list[int] = []
        self.suffix: list[int] = []
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=PAD,
            unk_token=UNK,
            eos_token=EOS,
            model_max_length=max_tokens,
            additional_special_tokens=[USER, ASSISTANT],
            split_special_tokens=True,
        )
        self.pad_id, self.unk_id, self.eos_id, self._user, self._assistant = range(len(SPECIAL_TOKENS))

    @classmethod
    def train(
        cls, corpus: Iterable[str], *, max_vocabulary: int, min_count: int, lowercase: bool, max_tokens: int
    ) -> LstmCodec:
        """Count the words of texts; a text without blanks may be a word of a tagged sentence and also counts whole."""
        tokenizer = _empty_tokenizer(lowercase)
        counts: Counter[str] = Counter()
        for text in corpus:
            normal = tokenizer.normalizer.normalize_str(text)
            pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(segment(normal))]
            counts.update(pieces)
            if pieces != [normal] and len(normal.split()) == 1:
                counts[normal] += 1
        ranked = sorted((word for word, n in counts.items() if n >= min_count), key=lambda word: (-counts[word], word))
        words = [*SPECIAL_TOKENS, *(word for word in ranked if word not in SPECIAL_TOKENS)][:max_vocabulary]
        tokenizer.model = models.WordLevel({word: n for n, word in enumerate(words)}, unk_token=UNK)
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        return cls(tokenizer, max_tokens)

    @classmethod
    def load(cls, folder: Path, max_tokens: int) -> LstmCodec:
        """Read what ``save`` wrote; RlftError where it is not there or broken."""
        try:
            return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), max_tokens)
        except Exception as problem:  # tokenizers raises bare Exception
            raise RlftError(
                f"{folder / 'tokenizer.json'}: cannot read the vocabulary of an LSTM ({problem}); give a checkpoint "
                "that model=lstm trained"
            ) from problem

    def word_pieces(self, words: Sequence[str]) -> list[list[int]]:
        """One id for each word: its own, else that of its first known piece ("@" of "@unseen", "Mr" of "Mr.")."""
        backend = self.tokenizer.backend_tokenizer
        found = [backend.token_to_id(backend.normalizer.normalize_str(word)) or self.pad_id for word in words]
        unknown = [place for place, n in enumerate(found) if n < len(SPECIAL_TOKENS)]
        for place, pieces in zip(unknown, self.text_ids([words[place] for place in unknown]), strict=True):
            found[place] = next((piece for piece in pieces if piece != self.unk_id), self.unk_id)
        return [[n] for n in found]

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; marks such as <eos> in a text are read as text."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer([segment(text) for text in texts], add_special_tokens=False)["input_ids"]
        return ids

    def chat_ids(self, turns: Sequence[dict[str, str]]) -> list[int]:
        """``<user> words <assistant> words <eos> ... <assistant>``; every role but the assistant's is the user's."""
        ids: list[int] = []
        for turn, words in zip(turns, self.text_ids([turn["content"] for turn in turns]), strict=True):
            speaks = turn["role"] == "assistant"
            ids += [self._assistant, *words, self.eos_id] if speaks else [self._user, *words]
        return [*ids, self._assistant]

    def text(self, ids: Sequence[int]) -> str:
        """Words joined as they are written, special tokens left out."""
        return join_words([str(self.tokenizer.convert_ids_to_tokens(n)) for n in ids if n >= len(SPECIAL_TOKENS)])

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json."""
        self.tokenizer.save_pretrained(str(folder))


def _empty_tokenizer(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({UNK: 0}, unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_WORD), behavior="isolated")]
    )
    return tokenizer


def segment(text: str) -> str:
    """Put blanks between the words of Chinese; RlftError where that takes jieba and it is missing."""
    return _HAN_RUN.sub(lambda run: f" {' '.join(_chinese_words(run.group()))} ", text)


def _chinese_words(run: str) -> list[str]:
    if len(run) == 1:
        return [run]
    try:
        jieba = import_module("jieba")
    except ImportError as problem:
        raise RlftError(
            f"model=lstm splits Chinese text ({run[:12]}) into words with jieba, which is not installed; "
            "type: pip install 'rlft[zh]'"
        ) from problem
    jieba.setLogLevel(60)  # it writes to standard error while it loads
    words: list[str] = jieba.lcut(run)
    return words


def join_words(words: Sequence[str]) -> str:
    """Write words as text: no blank before closing marks, after opening ones, or beside Chinese."""
    text, quoted = "", False
    for word in words:
        closes = word in _CLOSING and not (word == '"' and not quoted)
        tight = not text or closes or text[-1] in _OPENING or (text[-1] == '"' and quoted)
        text += word if tight or _WIDE.match(text[-1]) or _WIDE.match(word[0]) else f" {word}"
        quoted ^= word == '"'
    return text


__all__ = ["LstmCodec", "join_words", "segment"]
