"""Conversion of comparisons of version 1, which contain reduced attention arrays, to the current version."""

from __future__ import annotations

import base64
from typing import Any

from mpar2.audio import SAMPLE_RATE
from pages.attention_pack import record_of
from pages.attention_view import attention_view
from pages.document import VERSION, complete, with_claims
from pages.units import passages, words


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Return a document of version 1 in the current form. ``check_document`` catches the errors of a damaged one."""
    seconds = float(data["clip"]["seconds"])
    arms = []
    for arm in data["arms"]:
        tokens = [(int(start), int(stop)) for start, stop in arm["tokens"]]
        word_tokens = words(arm["text"], tokens)
        rows = passages(arm["text"], arm["parts"], tokens)
        record = None if arm["attention"] is None else record_of(arm["attention"])
        fields = {key: value for key, value in arm.items() if key != "tokens"}
        fields |= {
            "words": [[*word.chars, *word.tokens] for word in word_tokens],
            "attention": attention_view(record, rows, word_tokens, seconds),
            "cafe": None if arm["cafe"] is None else with_claims(arm["cafe"]),
            "against": None,
        }
        arms.append(fields)
    mel = data["clip"]["mel"]
    if mel and "start_s" not in mel:
        # Its columns were windows of 25 ms every 10 ms, pooled to at most 600, drawn over the whole clip.
        base64.b64decode(mel["data"], validate=True)
        columns = int(mel["shape"][1])
        frames = max(1, (round(seconds * SAMPLE_RATE) - 400) // 160 + 1)
        mel = mel | {"start_s": 0.0075, "column_s": 0.01 * max(1.0, frames / columns)}
    return complete(data | {"version": VERSION, "clip": data["clip"] | {"mel": mel}, "arms": arms})
