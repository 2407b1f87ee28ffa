"""Readers of strangers' files under inputs that nobody wrote, for as long as they are given.

``MPAR2_FUZZ_S=600 pytest tests/test_safe_fuzz.py`` searches ten minutes in place of a few seconds; a failing input is
kept in ``.hypothesis`` and tried first the next time. Replies of judges are in ``test_llm_replies``.
"""

from __future__ import annotations

import io
import json
import os
import random
import time
from functools import cache
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpar2.audio import AudioError, Limits, load_clip, read_samples
from mpar2.containers import locate, split
from mpar2.items import ItemsError, read_items
from mpar2.question import item_to_json
from mpar2.runs import check_record, record_key
from mpar2.runs.lines import dump_json
from tests.test_runs import record
from tests.test_safe_decoder import ENCODERS, many_channels
from tests.test_safe_properties import _JSON, planted

_SECONDS = float(os.environ.get("MPAR2_FUZZ_S", "12"))
_search = settings(
    max_examples=max(150, int(20 * _SECONDS)),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None if "MPAR2_FUZZ_S" not in os.environ else settings.default.database,
)
_started: dict[str, float] = {}


def _in_time(name: str) -> bool:
    """Whether this search has time left: what comes later is passed over."""
    return time.monotonic() - _started.setdefault(name, time.monotonic()) < _SECONDS / 3


ITEM = {
    "id": "a",
    "audio": "a.wav",
    "question": "Who speaks?",
    "choices": ["Man", "Woman"],
    "answer": "Woman",
    "difficulty": "easy",
    "events": [{"label": "dog", "onset_s": 0.5, "offset_s": 1.0}],
    "caption": "A dog.",
    "truth_origin": "human",
    "extra": {"absent": ["cat"]},
}


@_search
@given(_JSON, st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_an_item_that_is_read_can_be_recorded(tmp_path_factory: Any, value: Any, places: list[int]) -> None:
    if not _in_time("items"):
        return
    file = tmp_path_factory.getbasetemp() / "fuzzed.jsonl"
    file.write_text(json.dumps(ITEM) + "\n" + json.dumps(planted(ITEM | {"id": "b"}, value, places)) + "\n")
    try:
        found = read_items("jsonl", file)
    except ItemsError as error:
        assert str(file) in str(error)
        return
    for item in found.items:
        line = record() | {"id": item.id, "key": record_key(item.id, "base", 0), "item": item_to_json(item)}
        dump_json(check_record(line, "line 1"))


@cache
def _sound(number: int, channels: int) -> bytes:
    """A tenth of a second in each container and codec that is read."""
    if number < len(ENCODERS):
        return many_channels(*ENCODERS[number], channels, 0.3) or b""
    import soundfile

    kind, subtype = _FILES[number - len(ENCODERS)]
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, np.full((14_400, channels), 0.2, np.float32), 48_000, format=kind, subtype=subtype)
    except soundfile.LibsndfileError:
        return b""
    return buffer.getvalue()


_FILES = (
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")),
    *(("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS")),
)
_NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0")
_LIMITS = Limits(max_seconds=10, max_bytes=1_000_000, max_decoded_samples=4_000_000)


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    """One to three recordings, each with bytes of its header changed, cut, repeated, or with others put between."""
    data = bytearray()
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(ENCODERS) + len(_FILES) - 1))
        piece = bytearray(_sound(number, draw(st.integers(1, 9))))
        for _ in range(draw(st.integers(0, 6))):
            if not piece:
                break
            at = min(int(random.Random(draw(st.integers(0, 1 << 30))).paretovariate(0.4)), len(piece)) - 1
            match draw(st.integers(0, 6)):
                case 0:
                    piece[at] ^= 1 << draw(st.integers(0, 7))
                case 1:
                    piece[at : at + 4] = draw(
                        st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"])
                    )
                case 2:
                    del piece[at : at + draw(st.integers(1, 400))]
                case 3:
                    piece[at:at] = draw(st.binary(max_size=40))
                case 4:
                    del piece[at + 40 :]
                case 5:  # a chunk of a wav
                    name = draw(st.sampled_from([b"data", b"fmt ", b"slnt", b"LIST\x0c\0\0\0wavl"]))
                    piece[at:at] = name + draw(st.integers(0, 99)).to_bytes(4, "little")
                case 6:  # what stood before stands behind
                    piece[12:] = piece[12 + at :] + piece[12 : 12 + at]
        data += piece
    return bytes(data)


@_search
@given(_files())
def test_any_structure_of_a_file_is_walked_within_its_bytes(data: bytes) -> None:
    if not _in_time("structure"):
        return
    found = locate(data)
    if found is None:
        return
    started = time.monotonic()
    pieces = split(data, *found)
    assert pieces and time.monotonic() - started < 2
    for piece in pieces:
        assert piece.ranges and all(0 <= start <= stop <= len(data) for start, stop in piece.ranges), piece
        assert sum(stop - start for start, stop in piece.ranges) <= len(data), piece


@_search
@given(_files())
def test_any_file_is_a_clip_or_refused_in_words(data: bytes) -> None:
    if not _in_time("files"):
        return
    started = time.monotonic()
    try:
        clip = load_clip(data, limits=_LIMITS)  # in the child process: a crash there is a failure here
    except AudioError as error:
        assert "crashed" not in str(error) and "longer than" not in str(error).replace("recording is longer than", "")
    else:
        assert len(clip.samples) and np.isfinite(clip.samples).all() and np.abs(clip.samples).max() <= 1
    assert time.monotonic() - started < 8


def test_the_search_begins_with_files_that_are_whole() -> None:
    whole = sum(bool(_sound(n, channels)) for n in range(len(ENCODERS) + len(_FILES)) for channels in range(1, 10))
    assert whole > 120
    samples, warnings = read_samples(_sound(len(ENCODERS) + 1, 2), _LIMITS)
    assert len(samples) == 4800 and warnings == ()
