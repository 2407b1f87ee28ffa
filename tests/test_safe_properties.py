"""Readers of strangers' text are total: any input gives a value or the reader's own error, and in bounded time.

What single modules promise beyond that stands in their own tests (trace, question, cafe).
"""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mpar2.cafe.caption import read_captions
from mpar2.cafe.llm_judge import locate_quotes
from mpar2.cafe.rules.judge import annotate
from mpar2.cafe.schema import Truth
from mpar2.cafe.score import ScoreError, read_scores
from mpar2.engines.base import EngineError
from mpar2.llm.base import Reply, Usage
from mpar2.llm.errors import ReplyRejected, SettingError
from mpar2.llm.structured import parse
from mpar2.question import Event, QuestionError, match_choice, string_match
from mpar2.runs import RunError, check_record
from mpar2.runs.lines import dump_json, load_json, read_lines
from mpar2.runs.manifest import check_manifest
from mpar2.trace import parse_trace
from pages.running import Asked, decoding_of, parse_events
from tests.test_runs import manifest, record

_KEYS = st.sampled_from([*record(), *manifest(), "name", "events", "choices", "label", "onset_s", "ratio", "samples"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)
_many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def planted(whole: dict[str, Any], value: Any, places: list[int]) -> dict[str, Any]:
    """A copy of ``whole`` with ``value`` somewhere in it: each number chooses a key on the way down."""
    made = json.loads(json.dumps(whole))
    inner: Any = made
    for step, place in enumerate(places):
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys:
            break
        key = keys[place % len(keys)]
        if step == len(places) - 1 or not isinstance(inner[key], dict | list) or not inner[key]:
            inner[key] = value
            break
        inner = inner[key]
    return made


@_many
@given(_JSON, st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_any_value_anywhere_in_a_line_of_a_run(value: Any, places: list[int]) -> None:
    attentive = record() | {"attention": {"ratio": [0.1], "corrected": [0.3]}, "token_ends": [1, 5]}
    try:
        checked = check_record(planted(attentive, value, places), "line 1")
    except RunError as error:
        assert str(error).startswith("line 1")
    else:
        assert check_record(load_json(dump_json(checked), "line 1"), "line 1") == checked


@_many
@given(_JSON, st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_any_value_anywhere_in_a_manifest(value: Any, places: list[int]) -> None:
    try:
        checked = check_manifest(planted(manifest(), value, places), "run")
    except RunError as error:
        assert str(error).startswith("run")
    else:
        assert all(isinstance(arm["name"], str) for arm in checked["arms"])


@_many
@given(_JSON, st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_any_value_anywhere_in_captions_and_scores(tmp_path_factory: Any, value: Any, places: list[int]) -> None:
    run = tmp_path_factory.getbasetemp() / "captioned"
    (run / "cafe").mkdir(parents=True, exist_ok=True)
    events = [{"label": "dog", "onset_s": 0.0, "offset_s": 1.0}]
    tagged = {"id": "a", "events": events, "unsure": events, "truth_origin": "tagger"}
    for whole in (tagged, {"id": "a", "caption": "a dog", "truth_origin": "caption:x"}):
        (run / "cafe" / "captions.jsonl").write_text(json.dumps(planted(whole, value, places)) + "\n")
        try:
            for id, truth in read_captions(run).items():
                assert isinstance(id, str) and isinstance(truth.origin, str)
                assert truth.caption is None or isinstance(truth.caption, str)
        except SettingError as error:
            assert "line 1" in str(error)
    verdict = annotate("A dog barks.", Truth((Event("dog bark", 0.0, 1.0),), None, "scene")).as_dict()
    line = {"key": "a|b|0", "id": "a", "arm": "b", "sample": 0, "clip": "a.wav", "chars": 12, "verdict": verdict}
    (run / "scores.jsonl").write_text(json.dumps(planted(line, value, places)) + "\n")
    try:
        assert all(isinstance(score.key, str) for score in read_scores(run / "scores.jsonl").scores)
    except (ScoreError, RunError) as error:
        assert "line 1" in str(error)


@_many
@given(st.lists(st.binary(max_size=60) | _JSON.map(lambda v: json.dumps(v).encode()), max_size=5), st.booleans())
def test_any_bytes_as_lines(lines: list[bytes], ended: bool) -> None:
    data = b"\n".join(lines) + b"\n" * ended
    try:
        for number, value in read_lines(io.BytesIO(data), "items.jsonl", max_lines=3, max_line_bytes=50):
            assert 1 <= number <= 3 and isinstance(value, dict)
            dump_json(value)  # what was read can be written and shown
    except RunError as error:
        assert "items.jsonl" in str(error)


def said(text: str) -> Reply:
    return Reply(text, "judge", "judge", Usage(), "stop")


class _Shape(BaseModel):
    marks: list[float]
    note: str = ""


@_many
@given(
    st.text(max_size=80)
    | _JSON.map(lambda value: f"```json\n{json.dumps(value)}\n```")
    | st.lists(st.sampled_from(["```", "json", "\n", "<think>", "</think>", '{"marks":[1]}', "{", " ", "x"])).map(
        "".join
    )
)
def test_any_reply_of_a_judge(text: str) -> None:
    try:
        value = parse(said(text), _Shape)
    except ReplyRejected as error:
        assert error.reason in ("empty", "invalid_json", "schema")
    else:
        assert isinstance(value, _Shape)


@pytest.mark.parametrize(
    "wrapped", ["{}", "```json\n{}\n```", "```\n{}```", "<think>so {{}}</think>\n```json\n{}\n```"]
)
def test_thoughts_and_fences_are_taken_off(wrapped: str) -> None:
    assert parse(said(wrapped.replace("{}", '{"marks": [0.5]}').replace("{{}}", "{}")), _Shape).marks == [0.5]


@_many
@given(st.text(max_size=60), st.floats(0.1, 100))
def test_any_list_of_events(text: str, seconds: float) -> None:
    try:
        events = parse_events(text, seconds)
    except QuestionError:
        return
    for event in events or ():
        assert event.label.strip() and (event.onset_s is None or 0 <= event.onset_s < event.offset_s <= seconds + 0.5)


@_many
@given(_LEAVES, _LEAVES, _LEAVES)
def test_any_numbers_of_decoding(tokens: Any, temperature: Any, seed: Any) -> None:
    try:
        decoding = decoding_of(Asked(None, "?", max_new_tokens=tokens, temperature=temperature, seed=seed), 64)
    except EngineError:
        return
    assert 1 <= decoding.max_new_tokens <= 64 and 0 <= decoding.temperature <= 2 and 0 <= decoding.seed < 2**31


# ---- long texts that are made to be slow -------------------------------------------------------------------------


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Processor time, so that a busy machine fails nothing."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds} s of work")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


_LONG = {
    "open tags": "<step>" * 20_000,
    "closing tags": "</step>" * 20_000,
    "brackets": "<" * 100_000,
    "thoughts": "<think>" * 20_000,
    "half tags": "<step" * 20_000,
    "nested": "<step><ask>" * 5_000 + "</ask></step>" * 5_000,
    "blanks": "```" + "\n" * 100_000 + "x",
    "spaces": "answer:" + " " * 100_000 + "(",
    "digits": "9" * 100_000,
    "times": "0.5-" * 25_000,
    "parentheses": "((a) " * 20_000,
    "words": "a dog barks at " * 5_000,
    "quotes": "'\"`" * 30_000,
    "letters": "A. " * 30_000,
}


@pytest.mark.skipif(sys.platform == "win32", reason="counts processor time with a POSIX timer")
@pytest.mark.parametrize("name", _LONG)
def test_long_texts_take_bounded_time(name: str) -> None:
    text = _LONG[name]
    with _within(20):
        parse_trace(text)
        match_choice(text, ["a dog", "a bell"])
        string_match("a dog", text, ["a dog", "a bell"])
        locate_quotes(text, [text[:200], "a bell"])
        with pytest.raises(ReplyRejected):
            parse(said(text), _Shape)
        with pytest.raises(ReplyRejected):
            parse(said("<think>" + text), _Shape)


@pytest.mark.skipif(sys.platform == "win32", reason="counts processor time with a POSIX timer")
@pytest.mark.parametrize("name", _LONG)
def test_judging_by_rules_takes_bounded_time(name: str) -> None:
    truth = Truth((Event("dog bark", 0.5, 1.5), Event("bell", 2.0, 3.0)), None, "scene")
    with _within(20):
        annotate(_LONG[name][:30_000], truth, choices=("a dog", "a bell"))
