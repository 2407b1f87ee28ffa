"""The truth fits its judge: a cue is no list of events, and nothing is paid where nothing can be judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpar2.audio import wav_bytes
from mpar2.cafe.caption import read_captions, write_captions
from mpar2.cafe.schema import Truth
from mpar2.cafe.score import read_scores
from mpar2.cafe.truth import choose_truth
from mpar2.cli import main
from mpar2.question import Event, Item, Question
from testing.wire import judge_plan, openai_reply, serve
from tests.conftest import make_clip
from tests.test_cafe_score import record, write_run

ASKED = Question("What is heard?")
CAPTION = Truth(None, "a dog barks", "caption:m")


def item(events: tuple[Event, ...] | None, origin: str | None, caption: str | None = None) -> Item:
    return Item("1", "1.wav", ASKED, events, caption, origin)


@pytest.mark.parametrize(
    ("which", "expected"), [(None, CAPTION), ("events", None), ("exact", None), ("caption", CAPTION)]
)
def test_a_cue_is_taken_only_where_it_is_asked_for(which: str | None, expected: Truth | None) -> None:
    cue = item((Event("Timbre"),), "cue")
    assert choose_truth(cue, CAPTION, which) == expected
    assert choose_truth(cue, None, "cue").origin == "cue"
    assert choose_truth(cue) is None


def test_exact_truth_has_times_and_events_may_lack_them() -> None:
    bare, timed = item((Event("dog"),), "human"), item((Event("dog", 0.0, 1.0),), "scene")
    assert choose_truth(bare, None, "exact") is None and choose_truth(bare, None, "events") is not None
    assert choose_truth(timed, None, "exact").origin == "scene"
    assert choose_truth(timed, None, "cue") is None


def test_events_of_the_tagger_are_no_exact_truth() -> None:
    tagged = Truth((Event("dog", 0.0, 1.0),), origin="tagger")
    bare = item(None, None)
    assert choose_truth(bare, tagged, "exact") is None and choose_truth(bare, tagged, "events") == tagged
    assert choose_truth(bare, tagged) == tagged and choose_truth(bare, CAPTION, "events") is None


def cue_run(folder: Path, *more: Item) -> str:
    """One item of MMAR's kind, with a cue only, and ``more``."""
    (folder / "1.wav").write_bytes(wav_bytes(make_clip(1.0)))
    items = (item((Event("Timbre"), Event("dog")), "cue"), *more)
    return str(write_run(folder / "run", 0, tuple(record(one, "true", "A dog barks, a siren wails.") for one in items)))


TASKS = (["score"], ["damage"], ["probe", "--audio-root", "."], ["ground", "--audio-root", "."])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task[0])
@pytest.mark.parametrize("which", [None, "exact", "events", "caption", "cue"])
def test_a_cue_is_no_list_of_events_for_any_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: list[str], which: str | None
) -> None:
    run = cue_run(tmp_path)
    arguments = ["cafe", task[0], run, *task[1:], *(["--truth", which] if which else [])]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "--truth events or exact" in said if which in ("caption", "cue") else "mpar2 cafe caption" in said
    assert not list(Path(run, "cafe").glob("*/metrics.json"))


def test_a_caption_is_made_where_there_is_only_a_cue_and_both_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Item("2", "1.wav", ASKED, (Event("dog bark", 0.0, 1.0),), None, "scene")
    run = cue_run(tmp_path, known)
    caption = ["cafe", "caption", run, "--by", "tagger", "--audio-root", str(tmp_path)]
    assert main(caption) == 0 and set(read_captions(run)) == {"1"}, "the cue is no truth, the events of 2 are one"
    assert main([*caption, "--truth", "caption"]) == 0 and set(read_captions(run)) == {"1", "2"}
    write_captions(run, {"1": Truth(None, "A dog barks.", "caption:m")})
    capsys.readouterr()
    with serve(judge_plan(openai_reply)) as server:
        judge = ["--judge", "server", "--model", "m", "--base-url", f"{server.url}/v1", "--yes"]
        origins = {}
        for which in ("cue", "caption", "exact"):
            assert main(["cafe", "score", run, *judge, "--truth", which, "--name", which]) == 0
            scores = read_scores(Path(run, "cafe", which)).scores
            origins[which] = [getattr(score.outcome, "truth_origin", score.outcome.__class__) for score in scores]
            judged = [score for score in scores if hasattr(score.outcome, "truth_origin")]
            assert len(judged) == 1
    assert (origins["cue"][0], origins["caption"][0], origins["exact"][1]) == ("cue", "caption:m", "scene")
    sheet = ["cafe", "sheet", run, "--audio-root", str(tmp_path), "--out", str(tmp_path / "sheet.html")]
    assert main([*sheet, "--scores", f"{run}/cafe/caption", "--truth", "exact"]) == 2
    assert "no mention was judged against --truth exact" in capsys.readouterr().err
    assert main([*sheet, "--scores", f"{run}/cafe/caption", "--truth", "caption"]) == 0
    assert "of 1 clips" in capsys.readouterr().out
