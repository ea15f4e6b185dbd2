from __future__ import annotations

from rlft_cli.metrics.spans import score_spans, spans


def lenient(predictions, references, seed, resamples):
    """Strict scores that are those of conlleval."""
    found = score_spans(predictions, references, seed, resamples)
    return found | {name: found[f"{name}_conlleval"] for name in ("f1", "precision", "recall")}


def without_invalid(predictions, references, seed, resamples):
    """Words of no strict entity are read as O before anything is counted."""
    found = [{t for start, end, _ in spans(tags) for t in range(start, end)} for tags in predictions]
    legal = [
        [tag if t in held else "O" for t, tag in enumerate(tags)] for tags, held in zip(predictions, found, strict=True)
    ]
    return score_spans(legal, references, seed, resamples)


TWINS = {
    "spans_strict": [lambda tags, mode: spans(tags, "conlleval")],
    "spans_conlleval": [lambda tags, mode: spans(tags, "strict")],
    "span_scores": [lenient, without_invalid],
}
