"""Text to ids and back for pretrained models: a transformers tokenizer behind the Codec protocol.

Three things are made sure of here, once, for every tokenizer:

- a word of the data set always has at least one id (a word that the tokenizer drops becomes [UNK]), because each word
  is tokenised on its own and never aligned afterwards;
- text of the data set is never a special token: "[SEP]" or "<|im_end|>" inside a text is read letter by letter;
- the pad id is never the eos id. Nothing derives a mask from it (masks come from lengths), so any other id serves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlft_cli.errors import RlftError, UsageError

_UNLIMITED_TOKENS = 1_000_000  # transformers writes 1e30 for "no limit"
_OFFSET_TYPES = {  # position ids start after the pad id, so that this many positions hold no token
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
_CACHED_WORDS = 500_000  # about 200 MB; a service that runs for weeks must not grow for ever
_PROBES = ("the", "Paris", "3", "and")


class HFCodec:
    """The Codec of a transformers tokenizer; see rlft_cli.model.Codec for what each member means."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        tokenizer.backend_tokenizer.no_padding()  # MiniLM's file pads every text to 128 tokens and cuts it there
        tokenizer.backend_tokenizer.no_truncation()
        self._plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())  # to which no text is a special token
        self._plain.encode_special_tokens = True
        self._blank = _blank(self._plain)
        self._pieces: dict[str, list[int]] = {}
        self.prefix, self.suffix = _frame(tokenizer)
        self.max_tokens = max_tokens
        self.eos_id = _eos_id(tokenizer, self.suffix)
        self.pad_id = _pad_id(tokenizer, self._plain, self.eos_id)
        self.unk_id = _unk_id(tokenizer, self._plain, self.eos_id)
        if max_tokens <= len(self.prefix) + len(self.suffix):
            raise UsageError(
                f"model.max_tokens={max_tokens}: the model's own {len(self.prefix) + len(self.suffix)} tokens leave no "
                "room for text; give more, or null for the model's limit"
            )

    @classmethod
    def load(cls, folder: Path, max_tokens: int | None, chat_template: str | None = None) -> HFCodec:
        """Read the tokenizer of a folder in Hub format.

        ``max_tokens`` lowers the model's own limit, ``chat_template`` (Jinja) stands in for the tokenizer's own.
        Raises RlftError for a folder without a readable fast tokenizer, UsageError for a limit that leaves no room.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as problem:  # transformers and tokenizers raise bare Exceptions for damaged files
            first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
            raise RlftError(f"{folder}: the tokenizer cannot be read ({first}); expected a tokenizer.json") from problem
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise RlftError(f"{folder}: {type(tokenizer).__name__} is not a fast tokenizer; expected a tokenizer.json")
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        return cls(tokenizer, _max_tokens(folder, tokenizer, max_tokens))

    def word_pieces(self, words: Sequence[str]) -> list[list[int]]:
        """Ids of each word as it is read inside a sentence, at least one for every word, whatever the word is."""
        unknown = [word for word in dict.fromkeys(words) if word not in self._pieces]
        if len(self._pieces) + len(unknown) > _CACHED_WORDS:
            self._pieces.clear()
            unknown = list(dict.fromkeys(words))
        if unknown:
            found = self.text_ids([self._blank + word if word else "" for word in unknown])
            self._pieces.update((word, ids or [self.unk_id]) for word, ids in zip(unknown, found, strict=True))
        return [list(self._pieces[word]) for word in words]

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without prefix and suffix; empty for a text of which the tokenizer keeps nothing."""
        encodings = self._plain.encode_batch_fast([_valid(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def chat_ids(self, turns: Sequence[dict[str, str]]) -> list[int]:
        """Ids of a conversation up to where the assistant's next reply begins.

        A special token spelled out in a turn ("<|im_end|>") is broken up by a blank, so that no turn can end another.
        Raises RlftError where there is no chat template, or where the template refuses the order of the turns.
        """
        template = self.tokenizer.chat_template
        if template is None:
            raise RlftError(
                "the model has no chat template, so a dialogue cannot be put to it; set model.chat_template to a Jinja "
                "template (configs/model/gpt2.yaml has one) or take a chat model: model=smollm2"
            )
        safe = [{**turn, "content": self._broken_up(turn["content"])} for turn in turns]
        return _render(self.tokenizer, safe, begin_reply=True)

    def text(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out; cut padding off first, since pad_id may be an ordinary token."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def save(self, folder: Path) -> None:
        """Write the tokenizer files and the chat template; raises OSError."""
        self.tokenizer.save_pretrained(str(folder))

    def _broken_up(self, text: str) -> str:
        text = _valid(text)
        for token in self.tokenizer.added_tokens_encoder:
            if len(token) > 1 and token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


def _valid(text: str) -> str:
    """Replace lone surrogates (of undecodable input) by "?"; the tokenizer would raise on them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _render(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]], *, begin_reply: bool) -> list[int]:
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begin_reply)
    except (TemplateError, TypeError, KeyError) as problem:
        roles = ", ".join(turn.get("role", "?") for turn in turns)
        raise RlftError(f"the chat template does not take these turns ({problem}); given roles: {roles}") from problem
    # The template writes its own special tokens, and only what it writes: the post-processor would add them again
    return list(tokenizer.backend_tokenizer.encode(str(text), add_special_tokens=False).ids)


def _frame(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Find what the tokenizer's post-processor puts around an input, by the difference that it makes to a probe."""
    backend = tokenizer.backend_tokenizer
    bare = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    raise RlftError(f"{tokenizer.name_or_path}: a text is tokenised otherwise with special tokens than without")


def _blank(plain: Tokenizer) -> str:
    """Find what must stand before a lone word for the ids that it has inside a sentence."""

    def agrees(blank: str, word: str) -> bool:
        alone = plain.encode(blank + word, add_special_tokens=False).ids
        return plain.encode(f"is {word}", add_special_tokens=False).ids[-len(alone) :] == alone

    scores = {blank: sum(agrees(blank, word) for word in _PROBES) for blank in ("", " ")}
    return "" if scores[""] >= scores[" "] else " "


def _eos_id(tokenizer: PreTrainedTokenizerFast, suffix: list[int]) -> int:
    """Find the id that ends a reply: what the chat template writes after one, else eos; -1 for encoders.

    A tokenizer that closes every input with its eos (RoBERTa's </s>) belongs to an encoder: there it ends no reply.
    """
    eos = tokenizer.eos_token_id
    if not isinstance(eos, int) or eos in suffix:
        return -1
    if tokenizer.chat_template is None:
        return eos
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        written = _render(tokenizer, turns, begin_reply=False)
    except RlftError:  # a template for other roles says so when a dialogue is put to it
        return eos
    # Llama 3 and Qwen close a turn with another special token than the tokenizer's eos: the last one of the rendering
    special = tokenizer.added_tokens_decoder
    last = max((place for place, id_ in enumerate(written) if id_ in special), default=None)
    if last is None or str(tokenizer.decode(written[last:], skip_special_tokens=True)).strip():
        return eos  # the turn ends with text, and no special token closes it
    return written[last]


def _pad_id(tokenizer: PreTrainedTokenizerFast, plain: Tokenizer, eos_id: int) -> int:
    """Choose an id for padding that is not eos: pad, unk, bos, else one that stands for no text.

    Any other id is safe because masks, losses and attention are built from lengths; adding a token instead would change
    the size of the embedding, and with it the checkpoint.
    """
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    eos_ids = (eos_id, tokenizer.eos_token_id)
    found = next((id_ for id_ in special if isinstance(id_, int) and id_ not in eos_ids), None)
    if found is None:
        found = _impossible_id(tokenizer, plain, "\u00ff")
    return found if found is not None else next(id_ for id_ in range(3) if id_ not in eos_ids)


def _unk_id(tokenizer: PreTrainedTokenizerFast, plain: Tokenizer, eos_id: int) -> int:
    """Find what stands for a word that the tokenizer drops: unk, or a stand-in where unk also ends a text (GPT-2)."""
    unk = tokenizer.unk_token_id
    if isinstance(unk, int) and unk not in (eos_id, tokenizer.eos_token_id, tokenizer.bos_token_id):
        return unk
    found = _impossible_id(tokenizer, plain, "\u00fe")
    return found if found is not None else (plain.encode("?", add_special_tokens=False).ids or [0])[0]


def _impossible_id(tokenizer: PreTrainedTokenizerFast, plain: Tokenizer, byte: str) -> int | None:
    """Id of a byte that UTF-8 never holds (0xFE, 0xFF), which byte-level BPE has all the same; shown as U+FFFD.

    No text encodes to it, so that it cannot be mistaken for a word. None where the tokenizer is of another kind.
    """
    found = tokenizer.get_vocab().get(byte)
    return None if found in (None, *plain.encode(byte, add_special_tokens=False).ids) else found


def _max_tokens(folder: Path, tokenizer: PreTrainedTokenizerFast, given: int | None) -> int:
    """Find the longest input: the least of the tokenizer's limit, the model's positions and what the user gave."""
    limits = [_UNLIMITED_TOKENS, int(min(tokenizer.model_max_length, _UNLIMITED_TOKENS))]
    config = folder / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    for key in ("max_position_embeddings", "n_positions"):
        if isinstance(settings.get(key), int) and settings[key] > 0:
            offset = int(settings.get("pad_token_id") or 0) + 1 if settings.get("model_type") in _OFFSET_TYPES else 0
            limits.append(settings[key] - offset)
    return min([*limits, *([] if given is None else [given])])
