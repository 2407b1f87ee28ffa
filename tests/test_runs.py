"""A run survives kills, refuses to become another run, and believes nothing that a stranger uploads."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mpar2.question import Event, Item, Question, item_to_json
from mpar2.runs import (
    RunError,
    RunLimits,
    RunWriter,
    build_manifest,
    check_record,
    item_of,
    read_run,
    record_key,
    weights_hash,
)

ITEM = Item("a", "a.wav", Question("Which?", ("dog", "cat"), "dog", "sound"), (Event("dog", 0.0, 1.5),), None, "scene")


def manifest(**changes):
    arms = [{"name": "base", "model": "tiny-base", "mode": "cot"}]
    settings = {"benchmark": {"name": "scenes", "fingerprint": "f"}, "arms": arms, "seed": 0}
    return build_manifest(engine={"name": "transformers"}, **(settings | changes))


def record(id="a", arm="base", sample=0, **fields):
    item = item_to_json(ITEM)
    del item["id"]
    line = {"key": record_key(id, arm, sample), "id": id, "arm": arm, "sample": sample, "status": "ok", "item": item}
    return line | {"text": "<answer>dog</answer>", "answer": "dog", "choice": "dog", "tokens": 7} | fields


def failure(id="a", reason="no sound"):
    return record(id, status="error", error=reason, text=None)


def test_what_is_written_is_read(tmp_path):
    with RunWriter(tmp_path / "run", manifest()) as run:
        run.append(record("a", text="é 犬 \ud800", token_ends=[1, 3, 5], attention={"ratio": [0.5, None, 1]}))
        run.append(failure("b", "no such file"))
        run.finish({"accuracy": 1.0})
    run = read_run(tmp_path / "run")
    first, second = run.records()
    assert first["text"] == "é 犬 ?" and first["attention"] == {"ratio": [0.5, None, 1]}
    assert item_of(first) == ITEM
    assert (second["status"], second["error"]) == ("error", "no such file")
    assert run.manifest["arms"][0]["name"] == "base" and run.metrics == {"accuracy": 1.0}
    files = set(p.name for p in (tmp_path / "run").iterdir()) - {".items.jsonl.lock"}
    assert files == {"manifest.json", "items.jsonl", "metrics.json"}


def test_a_failure_is_tried_again_and_then_forgotten(tmp_path):
    with RunWriter(tmp_path, manifest()) as run:
        run.append(failure())
    with RunWriter(tmp_path, manifest()) as run:
        assert run.failed == {"a|base|0": "no sound"} and run.done == set()
        run.append(failure(reason="still no sound"))
        run.append(record())
        assert run.failed == {} and run.done == {"a|base|0"}
        with pytest.raises(RunError, match="count it twice"):
            run.append(failure())
    assert [r["status"] for r in read_run(tmp_path).records()] == ["ok"]
    assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 3


def test_a_torn_last_line_is_dropped_by_reader_and_writer(tmp_path):
    with RunWriter(tmp_path, manifest()) as run:
        run.append(record("a"))
    lines = tmp_path / "items.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole + whole[: len(whole) // 2])
    assert [r["id"] for r in read_run(tmp_path).records()] == ["a"]
    assert lines.read_bytes() != whole, "a reader changes nothing"
    with RunWriter(tmp_path, manifest()) as run:
        assert lines.read_bytes() == whole
        run.append(record("b"))
    assert [r["id"] for r in read_run(tmp_path).records()] == ["a", "b"]


def test_a_file_of_nothing_but_a_torn_line_is_empty(tmp_path):
    with RunWriter(tmp_path, manifest()):
        pass
    (tmp_path / "items.jsonl").write_bytes(b"x" * 200_000)
    with RunWriter(tmp_path, manifest()):
        assert (tmp_path / "items.jsonl").read_bytes() == b""


def test_any_other_bad_line_is_an_error_with_its_number(tmp_path):
    with RunWriter(tmp_path, manifest()) as run:
        run.append(record("a"))
        run.append(record("b"))
    lines = tmp_path / "items.jsonl"
    a, b = lines.read_bytes().splitlines(keepends=True)
    for damage, message in (
        (a[:40] + b"\n" + b, "line 1: not JSON"),
        (a + b + a, "line 3: .* for the second time"),
    ):
        lines.write_bytes(damage)
        with pytest.raises(RunError, match=message):
            list(read_run(tmp_path).records())
        with pytest.raises(RunError, match=message), RunWriter(tmp_path, manifest()):
            pass


def test_two_writers_are_kept_apart(tmp_path):
    with (
        RunWriter(tmp_path, manifest()),
        pytest.raises(RunError, match="being written by another process"),
        RunWriter(tmp_path, manifest()),
    ):
        pass
    with RunWriter(tmp_path, manifest()) as run:  # the lock is gone with its holder
        run.append(record())


def test_each_process_has_its_file_and_knows_what_the_others_did(tmp_path):
    with RunWriter(tmp_path, manifest(), rank=0) as first, RunWriter(tmp_path, manifest(), rank=1) as second:
        second.append(record("b"))
        first.append(record("a"))
        first.refresh()
        assert first.done == {"a|base|0", "b|base|0"}
    assert [r["id"] for r in read_run(tmp_path).records()] == ["a", "b"]


def test_another_manifest_is_refused_and_the_difference_named(tmp_path):
    with RunWriter(tmp_path, manifest()):
        pass
    with RunWriter(tmp_path, manifest()):  # another time, other versions, another command: the same run
        pass
    other = manifest(seed=3, arms=[{"name": "base", "model": "tiny-base", "mode": "mpar2"}])
    with pytest.raises(RunError) as caught, RunWriter(tmp_path, other):
        pass
    assert "arms[base].mode: cot, now mpar2" in str(caught.value) and "seed: 0, now 3" in str(caught.value)
    assert read_run(tmp_path).manifest["seed"] == 0


def test_items_without_manifest_are_not_continued(tmp_path):
    (tmp_path / "items.jsonl").write_bytes(b"")
    with pytest.raises(RunError, match=r"no manifest\.json"), RunWriter(tmp_path, manifest()):
        pass


KILLER = """
import os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
from test_runs import RunWriter, manifest, read_run, record

folder, rng, seen = sys.argv[2], random.Random(0), -1
for _ in range(10):
    acknowledged, says = os.pipe()
    child = os.fork()
    if child == 0:
        with RunWriter(folder, manifest()) as run:
            for n in range(len(run.done), 10**6):
                run.append(record(f"i{n}", text="x" * (n % 7) * 3000))
                os.write(says, b"%d " % n)
    os.close(says)
    first = os.read(acknowledged, 100)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    last = int((first + os.read(acknowledged, 10**6)).split()[-1])
    ids = [r["id"] for r in read_run(folder).records()]
    assert ids == [f"i{n}" for n in range(len(ids))], "no gap, nothing twice"
    assert len(ids) > last > seen, (len(ids), last, seen)
    seen = last
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    program = [sys.executable, "-c", KILLER, str(Path(__file__).parent), str(tmp_path / "run")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "b|base|0"}, "does not belong"),
        ({"sample": -1}, "whole number from 0"),
        ({"sample": True}, "whole number"),
        ({"status": "fine"}, "one of ok, error"),
        ({"status": "error"}, "no reason"),
        ({"text": None}, "no text"),
        ({"text": "x" * 400_001}, "the limit is 400,000"),
        ({"text": ["x"]}, "a text is needed"),
        ({"tokens": 1e300}, "whole number"),
        ({"seconds": -1}, "number of seconds"),
        ({"seconds": 10**400}, "number of seconds"),
        ({"audio_seconds": 1e7}, "at most a day"),
        ({"token_ends": [3, 1]}, "must not fall"),
        ({"attention": {"ratio": [[[[[1]]]]]}}, "numbers, short texts"),
        ({"attention": {"ratio": [float("inf")]}}, "numbers, short texts"),
        ({"item": None}, "an object is needed"),
        ({"item": {"audio": "a", "question": "q", "choices": "ab"}}, "list of texts"),
        ({"item": {"audio": "a", "question": "q", "choices": [1]}}, "list of texts"),
        (
            {"item": {"audio": "a", "question": "q", "events": [{"label": "x", "onset_s": "0"}]}},
            "seconds or null",
        ),
        ({"item": {"audio": "a", "question": "q", "events": [3]}}, "object with a text as 'label'"),
        ({"item": {"audio": "a", "question": "q", "answer": ["a"]}}, "a text is needed"),
    ],
)
def test_hostile_records_are_refused(change, message):
    with pytest.raises(RunError, match=message):
        check_record(record() | change, "line 1")


def test_unknown_fields_are_dropped():
    assert "__class__" not in check_record(record() | {"__class__": "x"}, "line 1")


@pytest.mark.parametrize("line", [b'{"a": NaN}\n', b"[" * 50_000 + b"\n", b"3\n", b"\xff\xfe\n", b"1" * 5000 + b"\n"])
def test_lines_that_are_no_json_are_refused(tmp_path, line):
    (tmp_path / "items.jsonl").write_bytes(line)
    with pytest.raises(RunError, match="line 1"):
        list(read_run(tmp_path / "items.jsonl", RunLimits()).records())


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def upload(**changes):
    return {"manifest.json": json.dumps(manifest()), "items.jsonl": json.dumps(record()) + "\n"} | changes


def test_an_upload_is_read_in_place(tmp_path):
    files = {f"run/{name}": data for name, data in upload().items()} | {"../../evil.py": "x", "run/notes.txt": "x"}
    run = read_run(zipped(tmp_path / "r.zip", files), RunLimits())
    assert [r["id"] for r in run.records()] == ["a"] and run.manifest["seed"] == 0 and run.metrics is None
    assert [p.name for p in tmp_path.iterdir()] == ["r.zip"]
    (tmp_path / "lone.jsonl").write_text(upload()["items.jsonl"])
    lone = read_run(tmp_path / "lone.jsonl", RunLimits())
    assert lone.manifest == {} and len(list(lone.records())) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x.txt": "x"}, "no items.jsonl"),
        (upload() | {"b/items.jsonl": ""}, "items.jsonl twice"),
        (upload() | {"manifest.json": "{"}, "not JSON"),
        (upload() | {"manifest.json": "{}"}, "another program"),
        (upload() | {"manifest.json": json.dumps(manifest() | {"version": 2})}, "this program reads 1"),
        (upload() | {"manifest.json": json.dumps(manifest() | {"arms": "x"})}, "lacks its arms"),
        (upload() | {"manifest.json": " " * 2000 + "{}"}, "larger than 1,000 bytes"),
        (upload() | {"items.jsonl": "x" * 60_000}, "limit here is 50,000"),
        (upload() | {"items.jsonl": upload()["items.jsonl"] * 11}, "second time|more than 10 lines"),
        (upload() | {"items.jsonl": "x" * 9000}, "longer than 5,000 bytes"),
    ],
)
def test_hostile_uploads_are_refused(tmp_path, files, message):
    limits = RunLimits(max_bytes=50_000, max_lines=10, max_line_bytes=5000, max_manifest_bytes=1000)
    with pytest.raises(RunError, match=message):
        list(read_run(zipped(tmp_path / "r.zip", files), limits).records())


def test_a_zip_that_lies_about_its_sizes_is_stopped(tmp_path):
    path = zipped(tmp_path / "r.zip", upload() | {"items.jsonl": (json.dumps(record()) + "\n") * 2000})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        true = archive.getinfo("items.jsonl").file_size.to_bytes(4, "little")
    path.write_bytes(bytes(data.replace(true, (900).to_bytes(4, "little"))))
    with pytest.raises(RunError):
        list(read_run(path, RunLimits(max_bytes=10_000)).records())


def test_a_damaged_zip_and_a_missing_run(tmp_path):
    path = zipped(tmp_path / "r.zip", upload() | {"items.jsonl": random.Random(0).randbytes(3000).hex()})
    data = bytearray(path.read_bytes())
    data[1500:1600] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(RunError, match="damaged|not JSON|cannot be read"):
        list(read_run(path, RunLimits()).records())
    with pytest.raises(RunError, match="is not there"):
        read_run(tmp_path / "none")
    with pytest.raises(RunError, match="is no run"):
        read_run(tmp_path)


def test_weights_hash_sees_content_and_names(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("words")
    before = weights_hash(tmp_path)
    (tmp_path / "README.md").write_text("other words")
    assert weights_hash(tmp_path) == before
    (tmp_path / "config.json").write_text("[]")
    assert weights_hash(tmp_path) != before


def test_the_manifest_holds_no_key_and_no_path(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marker")
    text = json.dumps(manifest())
    assert "sk-marker" not in text and str(Path.cwd()) not in text
