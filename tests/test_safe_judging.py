"""A judge holds nobody, its faults leave the traces, and arms are offered under names of their own."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from analysis import AnalysisError
from mpar2.arms import ArmError
from mpar2.engines.transformers import TransformersEngine
from pages import scoring
from pages.options import _offers, parse_options
from pages.running import Asked, Comparer
from pages.scoring import Judging
from pages.services import Offer, Services
from testing.hostile.sounds import good_wav

pytest.importorskip("gradio")

JUDGE = Judging("server", "key", "http://127.0.0.1:9/v1", "judge")


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(good_wav())
    return Asked(str(clip), "What?", arms=(("small", "cot"),), events="a bell", max_new_tokens=4, judging=JUDGE)


@pytest.fixture
def comparer(tiny_checkpoint: Path) -> Comparer:
    return Comparer(Services(TransformersEngine(), (Offer("small", str(tiny_checkpoint), None),), max_new_tokens=8))


def test_the_engine_is_free_before_the_judge_is_asked(
    comparer: Comparer, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_ask", lambda *_: pytest.fail("the judge is asked within the engine's event"))
    *_, last = comparer.trace(asked, "me")
    assert last["status"] == "running" and last["arms"][0]["stage"] == "scoring" and last["arms"][0]["text"]
    assert not list(comparer.judge("somebody else"))
    comparer.forget("me")
    assert not list(comparer.judge("me"))


@pytest.mark.parametrize("error", [AttributeError("x"), TypeError("x"), ValueError("x"), KeyError("x"), MemoryError()])
def test_a_fault_of_a_judge_leaves_the_traces(
    comparer: Comparer, asked: Asked, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(scoring, "_ask", broken)
    *_, last = comparer.run(asked, "me")
    assert last["status"] == "done" and last["arms"][0]["text"]
    assert "did not answer" in last["arms"][0]["cafe"]["unscored"]


def test_arms_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MPAR2_BASE", "MPAR2_MODEL", "MPAR2_ADAPTER"):
        monkeypatch.delenv(name, raising=False)
    offers, arms = _offers(parse_options([]))
    assert [offer.name for offer in offers] == ["small-base", "small-mpar2"]
    assert arms == (("small-base", "direct"), ("small-base", "cot"), ("small-mpar2", "mpar2"))
    offers, arms = _offers(parse_options(["--base", "tiny-mpar2"]))
    assert [offer.name for offer in offers] == ["tiny-mpar2"]
    assert [mode for _, mode in arms] == ["direct", "cot", "mpar2"]
    words = ["--arm", "free=a/model:cot", "--arm", "a=runs/1/model+x/adapter", "--arm", "a=runs/2/model:direct"]
    offers, arms = _offers(parse_options(words))
    assert len({offer.name for offer in offers}) == 3 and [mode for _, mode in arms] == ["cot", "mpar2", "direct"]
    assert (offers[1].model, offers[1].adapter) == ("runs/1/model", "x/adapter")
    offers, _ = _offers(parse_options(["--base", "one/model", "--model", "two/model"]))
    assert len({offer.name for offer in offers}) == 2, "equal folder names are told apart, none is dropped"
    with pytest.raises(ArmError, match="at once is 4"):
        _offers(parse_options(["--arm", "tiny-base"] * 5))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record, number: record | {"text": "<step>" * 60_000}, "million characters"),
        (lambda record, number: record | {"arm": f"arm {number}", "key": f"x|arm {number}|0"}, "values of 'arm'"),
        (lambda record, number: record | {"attention": {"ratio": [0.1] * 60_000}}, "numbers of attention"),
    ],
)
def test_uploads_that_are_dear_to_read_are_refused_in_words(tmp_path: Path, change: Any, words: str) -> None:
    import time

    from pages.analysis_runs import load_upload
    from testing.hostile.uploads import good_upload

    with zipfile.ZipFile(good_upload(tmp_path)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("items.jsonl"))
        record = json.loads(archive.read(name).splitlines()[0])
    lines = []
    for number in range(100):
        item = record | {"id": f"item {number}", "key": f"item {number}|{record['arm']}|0"}
        item = change(item, number)
        lines.append(json.dumps(item | {"key": f"{item['id']}|{item['arm']}|0"}))
    path = tmp_path / "dear.jsonl"
    path.write_text("\n".join(lines) + "\n")
    begun = time.process_time()
    with pytest.raises(AnalysisError, match=words):
        load_upload(path)
    assert time.process_time() - begun < 20
