"""Arms behind servers: streamed side by side, with tokens and log-probabilities; what goes wrong stays in place."""

from __future__ import annotations

import threading
import time

import pytest
from asking import FAST
from conftest import make_clip

from mpar2.engines.base import Arm, Decoding, EngineError, Request
from mpar2.engines.server import GeminiEngine, ServerEngine
from mpar2.llm import RetryPolicy
from mpar2.question import make_question
from testing.wire import HttpReply, error, gemini_stream, openai_reply, openai_stream, serve

QUESTION = make_question("What comes first?", ["dog bark", "bell"])
TEXTS = ["<think>", "I hear ", "a bell.", "</think>", "<answer>", "bell", "</answer>"]


def engine(server, **options) -> ServerEngine:
    return ServerEngine([server.url + "/v1"], **{"policy": FAST, "check_audio": False, **options})


def stream(engine, *models, **options):
    arms = [Arm(model, model, None, "cot") for model in models]
    return list(engine.stream(make_clip(), QUESTION, arms, Decoding(max_new_tokens=32), **options))


def test_the_text_grows_and_the_tokens_carry_log_probabilities():
    logprobs = [-0.1 * n for n in range(len(TEXTS))]
    with serve([openai_stream(TEXTS, logprobs=logprobs)]) as server:
        updates = stream(engine(server), "m")
    texts = [update.text for update in updates if update.stage == "reasoning"]
    assert texts == ["".join(TEXTS[:n]) for n in range(1, len(TEXTS) + 1)]
    generation = updates[-1].generation
    assert (generation.choice, generation.finish, generation.token_count) == ("bell", "stop", 7)
    spans = [generation.text[token.chars.start : token.chars.stop] for token in generation.tokens]
    assert spans == TEXTS and [token.logprob for token in generation.tokens] == pytest.approx(logprobs)
    body = server.calls[0].json
    assert body["stream"] is True and body["logprobs"] is True and body["max_tokens"] == 32
    assert 0 < generation.first_token_s <= generation.seconds


def test_arms_are_asked_at_the_same_time():
    with serve(lambda call: openai_stream(TEXTS, pause_s=0.05)) as server:
        updates = stream(engine(server), "a", "b", "c")
    assert server.open_most == 3
    done = {update.index: update.generation.text for update in updates if update.generation is not None}
    assert done == dict.fromkeys(range(3), "".join(TEXTS))
    order = [update.index for update in updates if update.stage == "reasoning"]
    assert order != sorted(order), "texts grow side by side"


def test_thoughts_apart_from_the_text_are_streamed_before_it():
    with serve([openai_stream(["<answer>bell</answer>"], reasoning=["I ", "hear."])]) as server:
        updates = stream(engine(server), "m")
    assert [update.text for update in updates][1:-1] == [
        "<think>I ",
        "<think>I hear.",
        "<think>I hear.</think><answer>bell</answer>",
    ]
    assert updates[-1].generation.text == "<think>I hear.</think><answer>bell</answer>"


def test_a_server_that_answers_in_one_piece_or_without_log_probabilities_is_read_all_the_same():
    def plan(call):
        if "logprobs" in call.json:
            return error(400, "logprobs is not supported by this model")
        return openai_reply("<answer>bell</answer>")

    with serve(plan) as server:
        runner = engine(server)
        (*_, last) = stream(runner, "m")
    assert last.generation.choice == "bell" and last.generation.tokens == () and last.generation.token_count == 7


def test_stopping_keeps_what_there_is_and_closing_ends_the_request():
    stop = threading.Event()
    with serve(lambda call: openai_stream(["word "] * 400, pause_s=0.02)) as server:
        texts = []
        for update in engine(server).stream(make_clip(), QUESTION, [Arm("m", "m")], stop=stop):
            texts.append(update.text)
            if len(texts) == 6:
                stop.set()
        assert update.generation.finish == "cancelled" and update.text.startswith("word word ")
        started = time.monotonic()
        updates = engine(server).stream(make_clip(), QUESTION, [Arm("m", "m")])
        next(updates)
        updates.close()
        assert time.monotonic() - started < 3
    assert threading.active_count() < 20


def test_an_arm_that_fails_lets_the_others_finish_and_is_named():
    def plan(call):
        return error(400, "cannot decode this") if call.json["model"] == "bad" else openai_stream(TEXTS, pause_s=0.01)

    with serve(plan) as server:
        seen = []
        with pytest.raises(EngineError, match="bad: bad_request: HTTP 400: cannot decode this"):
            for update in engine(server).stream(make_clip(), QUESTION, [Arm("bad", "bad"), Arm("good", "good")]):
                seen.append(update)
    assert seen[-1].index == 1 and seen[-1].generation.choice == "bell"


@pytest.mark.parametrize(
    "broken",
    [
        openai_stream(TEXTS[:3], finish=None, done=False, usage=None),  # the server was killed in the middle
        HttpReply(headers={"Content-Type": "text/event-stream"}, pieces=(b"data: {nonsense\n\n",)),
        HttpReply(headers={"Content-Type": "text/event-stream"}, pieces=(b'data: {"choices": [{"delta": []}]}\n\n',)),
        HttpReply(headers={"Content-Type": "text/event-stream"}, pieces=(b'error: {"code":500,"message":"slot"}\n\n',)),
    ],
)
def test_a_stream_that_breaks_off_is_asked_for_again(broken):
    with serve([broken, openai_stream(TEXTS)]) as server:
        (*_, last) = stream(engine(server), "m")
        assert last.generation.choice == "bell" and len(server.calls) == 2
    with serve([broken]) as server, pytest.raises(EngineError, match="m: (bad_body|unavailable)"):
        stream(engine(server), "m")


def test_gemini_is_streamed(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    with serve([gemini_stream(TEXTS)]) as server:
        updates = stream(GeminiEngine(base_url=server.url, policy=FAST), "gemini-3")
    assert updates[-1].generation.choice == "bell" and updates[-1].generation.token_count == 7
    assert len({update.text for update in updates}) > 5 and "streamGenerateContent" in server.calls[0].path


def test_a_batch_is_sent_at_once_and_keeps_its_order():
    def plan(call):
        return openai_reply(f"<answer>{call.json['seed']}</answer>", delay_s=0.05)

    with serve(plan) as server:
        requests = [Request(make_clip(), QUESTION, Arm("m", "m"), seed) for seed in range(12)]
        made = engine(server, in_flight=6).generate_batch(requests)
    assert [generation.trace.answer for generation in made] == [str(n) for n in range(12)] and server.open_most == 6


@pytest.mark.parametrize("finish", ["eos", "eos_token", "end_turn", "weird_new_word", "stop"])
def test_an_unknown_word_for_the_end_is_no_block(finish):
    with serve([openai_reply("<answer>bell</answer>", finish=finish)]) as server:
        (made,) = engine(server).generate_batch([Request(make_clip(), QUESTION, Arm("m", "m"))])
    assert (made.choice, made.finish) == ("bell", "stop")


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_an_empty_reply_is_no_answer(text):
    with serve([openai_reply(text)]) as server, pytest.raises(EngineError, match="empty reply"):
        engine(server).generate_batch([Request(make_clip(), QUESTION, Arm("m", "m"))])


def test_a_silent_server_is_given_up_in_time():
    policy = RetryPolicy(max_tries=1, timeout_s=0.3)
    started = time.monotonic()
    with (
        serve(lambda call: openai_stream(["x"] * 100, pause_s=0.1)) as server,
        pytest.raises(EngineError, match="0.3 s"),
    ):
        stream(engine(server, policy=policy), "m")
    assert time.monotonic() - started < 3
