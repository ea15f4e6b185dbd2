from __future__ import annotations

from rlft_cli.metrics.spans import spans

TWINS = {
    "spans_strict": [lambda tags, mode: spans(tags, "conlleval")],
    "spans_conlleval": [lambda tags, mode: spans(tags, "strict")],
}
