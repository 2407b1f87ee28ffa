"""The parser reads any text, keeps every character, says what was malformed, and takes linear time."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpar2.trace import Span, Trace, is_wellformed, parse_trace, trace_to_json

STEP = "<step><ask>what barks?</ask><hear>two barks at 1 s</hear><infer>a dog</infer></step>"
PERCEPTION = "<perception>a dog barks twice, then rain</perception>"
REVIEW = "<review>two barks: supported</review>"
ANSWER = "<answer>dog</answer>"
FULL = "\n".join([PERCEPTION, STEP, STEP, REVIEW, ANSWER])


def kinds(trace: Trace) -> list[str]:
    return [part.kind for part in trace.parts if part.kind != "text" or part.text.strip()]


def check_invariants(text: str, trace: Trace) -> None:
    """What holds for every text, however hostile."""
    assert trace.text == text
    assert "".join(text[p.outer.start : p.outer.stop] for p in trace.top()) == text
    position = 0
    for part in trace.top():
        assert part.outer.start == position < part.outer.stop
        position = part.outer.stop
    assert position == len(text)
    last_stop: dict[int, int] = {}
    for index, part in enumerate(trace.parts):
        assert part.text == text[part.chars.start : part.chars.stop]
        assert part.outer.start <= part.chars.start <= part.chars.stop <= part.outer.stop
        if part.parent is not None:
            parent = trace.parts[part.parent]
            assert part.parent < index
            assert parent.chars.start <= part.outer.start <= part.outer.stop <= parent.chars.stop
            assert last_stop.get(part.parent, 0) <= part.outer.start  # siblings do not overlap
            last_stop[part.parent] = part.outer.stop
    assert [p.number for p in trace.of_kind("step")] == list(range(1, len(trace.of_kind("step")) + 1))
    json.dumps(trace_to_json(trace))


def test_complete_trace():
    trace = parse_trace(FULL)
    check_invariants(FULL, trace)
    assert kinds(trace) == ["perception", *["step", "ask", "hear", "infer"] * 2, "review", "answer"]
    assert trace.problems == () and is_wellformed(trace) and trace.answer == "dog"
    first, second = trace.of_kind("step")
    assert (first.number, second.number) == (1, 2)
    assert [part.text for part in trace.children(second)] == ["what barks?", "two barks at 1 s", "a dog"]


def test_r1_and_direct_are_sound_but_not_the_mpar2_form():
    for text in ("<think>barking, so a dog</think>\n<answer>dog</answer>", ANSWER):
        trace = parse_trace(text)
        assert trace.problems == () and trace.answer == "dog" and not is_wellformed(trace)


def test_think_opened_in_the_prompt():
    trace = parse_trace("barking, so a dog</think><answer>dog</answer>")
    assert kinds(trace) == ["think", "answer"] and trace.parts[0].text == "barking, so a dog"
    assert "</think> closes nothing" in trace.problems


def test_a_think_part_may_quote_our_tags():
    trace = parse_trace("<think>I must write <answer> tags, say <answer>cat</answer>.</think><answer>dog</answer>")
    assert trace.answer == "dog"
    assert trace.top()[0].kind == "think" and len(trace.top()) == 2
    assert parse_trace("<think>hm <answer>dog</answer>").answer == "dog"


@pytest.mark.parametrize("stop", range(len(FULL)))
def test_every_beginning_of_a_trace(stop):
    text = FULL[:stop]
    trace = parse_trace(text)
    check_invariants(text, trace)
    assert not is_wellformed(trace) and trace.problems
    # A half-written tag never shows up in what a visitor reads as content.
    assert not any("<" in part.text for part in trace.parts if part.kind not in ("text", "step"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FULL[: -len(ANSWER)], "no <answer> part"),
        (FULL[:-3], "the text ends inside a tag ('</answ')"),
        (FULL[:-9], "<answer> is not closed: the text ends inside it"),
        (FULL.replace(PERCEPTION, ""), "no <perception> part"),
        (FULL.replace(STEP, ""), "no <step> part"),
        (FULL.replace(REVIEW, ""), "no <review> part"),
        (FULL.replace(PERCEPTION, "<perception> \n</perception>"), "<perception> is empty"),
        (FULL + PERCEPTION, "more than one <perception>"),
        (FULL + ANSWER, "more than one <answer>"),
        ("\n".join([STEP, PERCEPTION, REVIEW, ANSWER]), "<perception> comes after <step>"),
        ("\n".join([PERCEPTION, STEP, REVIEW, STEP, ANSWER]), "<step> comes after <review>"),
        (FULL.replace("<hear>two barks at 1 s</hear>", "", 1), "step 1 has no <hear>"),
        (FULL.replace("</ask>", "</ask> hmm", 1), "step 1 has text outside its parts"),
        (FULL.replace("<infer>", "<ask>x</ask><infer>", 1), "step 1 repeats a part"),
        (
            f"{PERCEPTION}<step><hear>h</hear><ask>a</ask><infer>i</infer></step>{REVIEW}{ANSWER}",
            "step 1 has its parts out of order",
        ),
        (FULL.replace("</step>", f"{ANSWER}</step>", 1), "<step> is not closed before <answer>"),
        (FULL.replace("</ask>", "", 1), "<ask> is not closed before <hear>"),
        (FULL.replace(STEP, "<hear>h</hear>", 1), "<hear> stands outside a <step>"),
        (f"Sure! {FULL}", "text outside the parts"),
        (FULL.replace("<review>", "</step><review>"), "</step> closes nothing"),
        (FULL.replace("<perception>", "<PERCEPTION>"), "tag '<PERCEPTION>' is not written as <perception>"),
        (f"<think>hm</think>{FULL}", "<think> beside the parts of MPAR²"),
        (f"<think>{FULL}</think>{ANSWER}", "inside <think>: <answer>, <perception>, <review>, <step>"),
    ],
)
def test_what_is_malformed_is_named(text, problem):
    trace = parse_trace(text)
    check_invariants(text, trace)
    assert problem in trace.problems
    assert not is_wellformed(trace)


def test_stray_brackets_are_content():
    text = FULL.replace("two barks at 1 s", "level < 3 dB & x<y <b>bold</b> <unknown> <")
    trace = parse_trace(text)
    assert is_wellformed(trace) and "<b>bold</b> <unknown> <" in trace.of_kind("hear")[0].text


def test_upper_case_and_spaced_tags_are_read():
    trace = parse_trace("< THINK >x</ think ><Answer>dog</ANSWER>")
    assert kinds(trace) == ["think", "answer"] and trace.answer == "dog" and len(trace.problems) == 4
    assert kinds(parse_trace("<\u017ftep>x</\u017ftep>")) == ["text"]  # a long s is not an s


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is a dog.", "a dog"),
        ("It barks.\nSo the final answer is: (B) Dog", "(B) Dog"),
        ("Answer: **two dogs**", "two dogs"),
        ("Answer:\nDr. Smith", "Dr. Smith"),
        ("The answer is not A; the answer is 3.5 seconds.", "3.5 seconds"),
        ('The correct answer is "dog" because it barks.', "dog"),
        ("thinking ...\n\\boxed{dog}", "dog"),
        ("It barks.\n(B) Dog", "(B) Dog"),
        ("B", "B"),
        ("(C)", "(C)"),
        ("A dog barks and then it rains.", None),
        ("The answer is not clear.", None),
        ("The answer is in the audio", None),
        ("The answer is dog.\nBut then again I hear a cat.", None),
        ("I could say the answer", None),
        ("", None),
        ("   \n ", None),
        ("<think>the answer is dog</think>", None),
        ("<think>so a dog</think>\nThe answer is dog.", "dog"),
        ("<answer></answer>", None),
    ],
)
def test_prose_answers_only_where_they_are_beyond_doubt(text, answer):
    assert parse_trace(text).answer == answer


def test_the_last_answer_counts():
    assert parse_trace("<answer>cat</answer><answer>dog</answer><answer> </answer>").answer == "dog"


def tokenised(text: str, size: int) -> list[Span]:
    return [Span(i, min(i + size, len(text))) for i in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_token_spans_cover_the_content(size):
    spans = tokenised(FULL, size)
    trace = parse_trace(FULL, spans)
    for part in trace.parts:
        oracle = [i for i, span in enumerate(spans) if span.start < part.chars.stop and span.stop > part.chars.start]
        assert list(range(part.tokens.start, part.tokens.stop)) == oracle


def test_token_spans_with_empty_and_senseless_tokens():
    text = "<answer>dög</answer>"
    spans = [Span(0, 8), Span(8, 9), Span(9, 9), Span(9, 10), Span(10, 11), Span(11, len(text))]
    assert parse_trace(text, spans).parts[0].tokens == Span(1, 5)
    assert parse_trace(text, []).parts[0].tokens == Span(0, 0)
    assert parse_trace("<answer></answer>", [Span(0, 17)]).parts[0].tokens == Span(0, 0)
    parse_trace(text, [Span(9, 3), Span(-5, 2), Span(0, 10**9)])
    assert parse_trace(text).parts[0].tokens is None


_PIECES = st.sampled_from(
    [f"<{slash}{tag}>" for slash in ("", "/") for tag in ("perception", "step", "ask", "hear", "infer", "review")]
    + ["<answer>", "</answer>", "<think>", "</think>", "<", "</", "</ans", "<ST"]
    + [" ", "\n", "dog", "answer is ", "é", "\0"]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_PIECES, max_size=40).map("".join), st.integers(1, 9))
def test_any_sequence_of_tags(text, size):
    trace = parse_trace(text, tokenised(text, size))
    check_invariants(text, trace)
    for part in trace.parts:
        assert 0 <= part.tokens.start <= part.tokens.stop <= len(text)
    if is_wellformed(trace):
        assert text.count("<answer>") == 1 and trace.answer


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=200))
def test_any_text(text):
    check_invariants(text, parse_trace(text))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(FULL)), st.integers(0, len(FULL)), st.integers(0, len(FULL)))
def test_any_shuffle_of_a_real_trace(a, b, c):
    text = FULL[a : a + 80] + FULL[b:c] + FULL[c : c + 50]
    check_invariants(text, parse_trace(text))


@pytest.mark.parametrize(
    "piece",
    [
        "<", "< ", "<   ", "</", "<ask>", "<step>", "</think>", "<think>", "<step><ask>x", "<think><step><ask>",
        "answer is ", "answer: ", "\\boxed{", "\n", "a", "**", "<answer", "(A) ",
    ],
)  # fmt: skip
def test_a_megabyte_of_anything_does_not_hang(piece):
    start = time.process_time()
    trace = parse_trace(piece * (1_000_000 // len(piece)) + "</think>")
    assert time.process_time() - start < 60  # a second or two is usual; quadratic work would take hours
    assert len(trace.problems) <= 41
