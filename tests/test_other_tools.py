"""Runs of lmms-eval are read, in the forms of its versions; logs are in the form that Inspect's viewer opens."""

from __future__ import annotations

import json

import pytest

from mpar2.cli import main
from mpar2.inspect_log import write_inspect_logs
from mpar2.lmms_eval import SamplesError, import_samples
from mpar2.runs import read_run

PROMPT = "Who speaks?\nA. Man\nB. Woman\nAnswer with the option's letter from the given choices directly."
DOC = {"id": "q0", "audio_id": "./0.wav", "question": "Who speaks?", "choices": '["Man", "Woman"]', "answer": "Woman"}


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "line",
    [
        # with the item in the line and nested replies (until 0.5); the submission of MMAU; the prompt alone
        {
            "doc_id": 0,
            "doc": DOC,
            "target": "Woman",
            "arguments": [[PROMPT, {}]],
            "resps": [["B"]],
            "filtered_resps": ["B"],
        },
        {
            "doc_id": 0,
            "target": "Woman",
            "input": PROMPT,
            "filtered_resps": "B",
            "submission": DOC | {"model_prediction": "W"},
        },
        {"doc_id": 0, "target": "B", "input": PROMPT, "resps": ["<think>She.</think>B"], "filtered_resps": "B"},
    ],
)
def test_each_version_gives_the_same_answer(tmp_path, line):
    line["token_counts"] = [{"output_tokens": 3}]
    file = write(tmp_path / "my-model" / "20260101_samples_mmau_test_mini.jsonl", [line, line | {"filter": "second"}])
    metrics = import_samples([file], tmp_path / "run")
    (record,) = read_run(tmp_path / "run").records()
    assert (record["arm"], record["choice"], record["tokens"]) == ("my-model", "Woman", 3)
    assert record["item"]["question"] == "Who speaks?" and record["item"]["choices"] == ["Man", "Woman"]
    assert metrics["arms"]["my-model"]["official"]["estimate"] == 1.0


def test_items_come_from_the_official_file_and_letters_keep_the_order_of_the_prompt(tmp_path, capsys):
    entries = [
        {"id": "a", "audio_id": "a.wav", "question": "Who speaks?", "choices": ["Woman", "Man"], "answer": "Woman"},
        {"id": "b", "audio_id": "b.wav", "question": "Who speaks? Now?", "choices": ["Woman", "Man"], "answer": "Man"},
    ]
    data = tmp_path / "mmau.json"
    data.write_text(json.dumps(entries))
    # "Who speaks?" is also a part of the second question: the longer one is meant
    lines = [
        {"doc_id": 0, "target": "Woman", "input": PROMPT, "filtered_resps": "B"},
        {"doc_id": 1, "target": "Man", "input": PROMPT.replace("speaks?", "speaks? Now?"), "filtered_resps": "B"},
        {"doc_id": 2, "target": "x", "input": "Another question?\nA. x\nB. y", "filtered_resps": "B"},
    ]
    one = write(tmp_path / "one" / "x_samples_mmau.jsonl", lines)
    two = write(tmp_path / "two" / "x_samples_mmau.jsonl", lines[:1])
    command = ["convert", "from-lmms-eval", str(one), str(two), "--benchmark", "mmau", "--data", str(data)]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "1 lines of 'one' are of no item of mmau.json" in printed and "one: official 50.0 %" in printed
    records = {(r["arm"], r["id"]): r for r in read_run(tmp_path / "run").records()}
    assert records["one", "a"]["choice"] == "Woman", "B is Woman in the prompt, and Man in the file"
    assert records["one", "b"]["choice"] == "Woman" and records["two", "a"]["item"]["audio"] == "a.wav"
    assert main(["rescore", str(tmp_path / "run")]) == 0 and "lmms-eval" in capsys.readouterr().out


def test_what_cannot_be_read_is_said(tmp_path):
    file = write(tmp_path / "m" / "samples_x.jsonl", [{"id": 1}])
    with pytest.raises(SamplesError, match="line 1: no 'doc_id' and 'resps'"):
        import_samples([file], tmp_path / "run")
    file = write(tmp_path / "m" / "samples_x.jsonl", [{"doc_id": 1, "filtered_resps": "B", "input": "Transcribe."}])
    with pytest.raises(SamplesError, match="give the benchmark's own question file"):
        import_samples([file], tmp_path / "run")
    with pytest.raises(SamplesError, match="two files would be the arm 'm'"):
        import_samples([file, file], tmp_path / "run")


def test_logs_are_of_the_form_that_inspect_reads(tmp_path):
    lines = [
        {"doc_id": 0, "doc": DOC, "target": "Woman", "resps": [["B", "A"]], "filtered_resps": ["B"]},
        {"doc_id": 1, "doc": DOC | {"id": "q1", "answer": ""}, "target": "", "resps": [["B"]], "filtered_resps": ["B"]},
    ]
    import_samples([write(tmp_path / "m" / "samples_mmau.jsonl", lines)], tmp_path / "run")
    (path,) = write_inspect_logs(tmp_path / "run", tmp_path / "logs")
    log = json.loads(path.read_text())
    assert log["version"] == 2 and log["status"] == "success" and log["eval"]["dataset"]["sample_ids"] == ["q0", "q1"]
    assert [(s["id"], s["epoch"]) for s in log["samples"]] == [("q0", 1), ("q0", 2), ("q1", 1)]
    assert [s["scores"].get("official", {}).get("value") for s in log["samples"]] == ["C", "I", None]
    assert (
        log["samples"][0]["messages"][1]["role"] == "assistant"
        and "B. Woman" in log["samples"][0]["input"][0]["content"]
    )
    assert log["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 0.5
    reader = pytest.importorskip("inspect_ai.log", reason="install inspect_ai to read the log by its own reader")
    read = reader.read_eval_log(str(path))
    assert read.samples[0].output.completion == "B" and read.results.scores[0].name == "official"


def test_names_and_dates_of_a_foreign_run_stay_in_the_folder(tmp_path):
    line = {"doc_id": 0, "doc": DOC, "target": "Woman", "resps": [["B"]], "filtered_resps": ["B"]}
    file = write(tmp_path / "m" / "samples_mmau.jsonl", [line])
    import_samples([file], tmp_path / "run", names=["../../a|b" + "x" * 300])
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest | {"created": "../../../2026"}))
    (path,) = write_inspect_logs(tmp_path / "run", tmp_path / "logs")
    assert path.parent == tmp_path / "logs" and path.name.startswith("1970-01-01T") and len(path.name) < 120
    assert {p.name for p in tmp_path.iterdir()} == {"m", "run", "logs"}
