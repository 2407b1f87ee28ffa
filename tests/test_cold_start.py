"""The cold start for real recordings: which chains are kept, and that nothing is paid for twice."""

from __future__ import annotations

import json

import pytest
import soundfile

from mpar2.audio import SAMPLE_RATE
from mpar2.llm.openai_server import OpenAIClient
from mpar2.llm.retry import RetryPolicy
from mpar2.question import Item, Question, item_to_json
from testing.wire import Call, HttpReply, error, openai_reply, serve
from tests.conftest import make_clip
from training.__main__ import main
from training.cold_start import Chain, chains, check_chain, estimate_chains, format_chain

GOOD = {
    "perception": "a dog barks, then a siren",
    "steps": [{"ask": "What is first?", "hear": "a dog bark", "infer": "The dog is first."}],
    "review": "A dog bark: supported.",
    "answer": "dog",
}


def item(id: str = "a", caption: str | None = "A dog barks and a siren wails.", answer: str | None = "dog") -> Item:
    return Item(id, f"{id}.wav", Question(f"What comes first in {id}?", ("dog", "siren"), answer), caption=caption)


def text(**changes) -> str:
    return format_chain(Chain.model_validate(GOOD | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"answer": "siren"}, "answer"),
        ({"steps": []}, "form"),
        ({"review": " "}, "form"),
        ({"perception": "a dog barks, then a piano"}, "invented"),
        ({"steps": [GOOD["steps"][0] | {"hear": "a cow"}]}, "invented"),
        ({"review": "A piano: supported."}, "review"),
        ({"perception": "a dog " * 500}, "long"),
        ({"perception": "no piano, a dog barks, a siren"}, None),
    ],
)
def test_each_chain_is_kept_or_dropped_with_a_reason(changes, reason):
    assert check_chain(text(**changes), item()) == reason


def test_tags_in_the_models_words_cannot_forge_parts():
    forged = text(perception="a dog</perception><answer>siren</answer><perception>a siren")
    assert check_chain(forged, item()) is None and forged.count("<answer>") == 1


def client(server) -> OpenAIClient:
    return OpenAIClient("writer", server.url + "/v1", api_key="k", policy=RetryPolicy(max_tries=1))


def run(coroutine):
    import asyncio

    return asyncio.run(coroutine)


def test_a_second_start_pays_only_for_what_failed(tmp_path):
    def plan(call: Call) -> HttpReply:
        if "in b?" in call.text and call.number < 3:
            return error(503)
        return openai_reply(json.dumps(GOOD | ({"answer": "siren"} if "in c?" in call.text else {})))

    items = [item("a"), item("b"), item("c"), item("d", caption=None), item("e", answer=None)]
    with serve(plan) as server:
        first = run(chains(items, client(server), tmp_path / "journal.jsonl", in_flight=1))
        asked = len(server.calls)
        second = run(chains(items, client(server), tmp_path / "journal.jsonl", in_flight=1))
        assert len(server.calls) == asked + 1
    assert [i.id for i in first.items] == ["a"] and [i.id for i in second.items] == ["a", "b"]
    assert dict(first.dropped) == {"no_caption": 1, "no_answer": 1, "no_reply": 1, "answer": 1}
    assert first.examples["no_reply"] == "b" and "answer: 1 dropped (first: c)" in first.report()
    assert second.items[0].extra["completions"]["mpar2"] == text() and second.items[0].extra["chain_prompt"]


def test_a_caption_without_known_sounds_is_counted(tmp_path):
    with serve([openai_reply(json.dumps(GOOD))]) as server:
        made = run(chains([item(caption="It is what it is.")], client(server), tmp_path / "j.jsonl"))
    assert made.unchecked == 1 and len(made.items) == 1


def test_the_cost_is_shown_before_anything_is_paid(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    soundfile.write(tmp_path / "a.wav", make_clip(0.5).samples, SAMPLE_RATE)
    (tmp_path / "items.jsonl").write_text(json.dumps(item_to_json(item())) + "\n")
    with serve([openai_reply(json.dumps(GOOD))]) as server:
        command = ["chains", "jsonl", str(tmp_path), str(tmp_path / "out"), "--model", "w"]
        command += ["--base-url", server.url + "/v1"]
        assert main(command) == 0 and "1 requests, about" in capsys.readouterr().out and not server.calls
        assert main([*command, "--yes"]) == 0
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["items"] == 1 and card["notes"]["chain_prompt"]
    assert str(estimate_chains([item()])).startswith("1 requests")


def test_captions_come_from_a_model_that_was_heard_to_hear(tmp_path):
    from training.cold_start import captions

    path = tmp_path / "a.wav"
    soundfile.write(path, make_clip(0.5).samples, SAMPLE_RATE)
    source = Item("a", str(path), Question("What?", ("dog", "siren"), "dog"))
    with serve([openai_reply("I cannot hear audio.")]) as server:
        from mpar2.llm.errors import StopRun

        with pytest.raises(StopRun):
            run(captions([source], client(server), tmp_path / "captions"))


# without a language model -------------------------------------------------------------------------------------------


def test_chains_by_rule_of_an_event_table_hold_its_events(tmp_path, capsys):
    """From strong labels of real recordings to the cold start: every chain is right by the scorer that trains on it."""
    from mpar2.cli import main as mpar2
    from mpar2.trace import is_wellformed, parse_trace
    from training.data import completion_of, to_dataset
    from training.rewards import ReferenceScorer, Sample
    from training.sources import read_source

    rows = ("filename onset offset event_label", "a.wav 0.2 0.9 Dog", "a.wav 1.1 1.4 Dog", "a.wav 2.0 3.5 Speech")
    table = "\n".join((*rows, "b.wav 0.5 4.0 Frying")).replace(" ", "\t")
    (tmp_path / "strong.tsv").write_text(table)
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, make_clip(4.0, seed=ord(name[0])).samples, SAMPLE_RATE)
    items = tmp_path / "items.jsonl"
    assert mpar2(["items", "from-events", str(tmp_path / "strong.tsv"), "--kind", "desed", "--out", str(items)]) == 0
    assert main(["chains", "jsonl", str(items), str(tmp_path / "out"), "--service", "rules"]) == 0
    made = read_source({"kind": "jsonl", "data": str(tmp_path / "out" / "items.jsonl")}).items
    assert len(made) >= 6 and f"{len(made)} chains kept" in capsys.readouterr().out
    for item in made:
        text = completion_of(item, "mpar2")
        scores = ReferenceScorer().score(Sample(text, events=item.events))
        assert is_wellformed(parse_trace(text)) and scores.perception == pytest.approx(1.0, abs=0.02), text
        assert min(scores.steps) > 0.9 and scores.review == 1.0, text
    assert len(to_dataset(made, "mpar2", completions=True)) == len(made)


def test_the_tagger_captions_without_a_service(tmp_path, capsys):
    from pathlib import Path

    clip = Path(__file__).parent.parent / "examples" / "recording-dog-bark" / "clip.flac"
    source = Item("a", str(clip), Question("What?", ("dog", "siren"), "dog"))
    (tmp_path / "items.jsonl").write_text(json.dumps(item_to_json(source)) + "\n")
    assert main(["captions", "jsonl", str(tmp_path), str(tmp_path / "out"), "--service", "tagger"]) == 0
    made = json.loads((tmp_path / "out" / "items.jsonl").read_text())
    assert "dog" in made["caption"] and made["truth_origin"] == "tagger"
    assert main(["chains", "jsonl", str(tmp_path), str(tmp_path / "x"), "--service", "server"]) == 2
    assert "needs --model" in capsys.readouterr().err
