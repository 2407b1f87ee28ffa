"""One set of replies under every rule in use."""

from __future__ import annotations

import json

import pytest

from mpar2.cli import main
from mpar2.items import read_items
from mpar2.rescore import RescoreError, read_verdicts, rescore, rescored_table, score_by_rules

CHOICES = ("Man", "Woman", "Child", "Robot")


@pytest.mark.parametrize(
    ("reply", "values"),
    [
        # official, official_raw, strict, letter, lmms_eval, nemo: for the answer Woman
        ("<answer>Woman</answer>", (1, 1, 1, 0, 0.25, 1)),
        ("<answer>(B) Woman</answer>", (1, 1, 1, 1, 1, 0)),
        ("Woman", (1, 1, 1, 0, 0.25, 0)),
        ("B", (1, 0, 1, 1, 1, 0)),
        ("B.", (1, 0, 1, 1, 1, 0)),
        ("The answer is B.", (1, 0, 1, 1, 1, 0)),
        ("The answer is (A).", (0, 0, 0, 0, 0, 0)),
        ("(A) or (B)", (0, 0, 0, 1, 0, 0)),  # lmms-eval: neither stands between blanks, so the first
        ("I hear a woman in the room.", (1, 1, 0, 0, 0.25, 0)),
        ("<think>A man?</think>Woman", (1, 1, 1, 0, 0.25, 0)),
        ("nothing", (0, 0, 0, 0, 0.25, 0)),
    ],
)
def test_each_rule_reads_as_its_tool_does(reply, values):
    found, _ = score_by_rules(reply, "Woman", CHOICES)
    names = ("official", "official_raw", "strict", "letter", "lmms_eval", "nemo")
    assert tuple(found[name] for name in names) == values


def test_the_guess_is_its_expectation_and_is_counted():
    found, guessed = score_by_rules("nothing", "Woman", ("Man", "Woman"))
    assert guessed and found["lmms_eval"] == 0.25  # it guesses among four letters, whatever is asked
    assert not score_by_rules("B", "Woman", CHOICES)[1]


def test_an_answer_by_letter_hangs_on_the_order_of_the_choices():
    assert score_by_rules("B", "Woman", CHOICES)[0]["shuffled"] == 0.25
    assert score_by_rules("Woman", "Woman", CHOICES)[0]["shuffled"] == 1.0
    assert score_by_rules("(B) Woman", "Woman", CHOICES)[0]["shuffled"] == 1.0


def run_of(folder, replies):
    lines = []
    for number, reply in enumerate(replies):
        item = {"audio": f"{number // 2}.wav", "question": "Who?", "choices": list(CHOICES), "answer": "Woman"}
        line = {"key": f"{number}|an arm|0", "id": str(number), "arm": "an arm", "sample": 0, "status": "ok"}
        lines.append(line | {"item": item, "text": reply, "prediction": "", "choice": None})
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"format": "x"}))
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_run_is_one_table_with_the_items_behind_each_difference(tmp_path, capsys):
    path = run_of(tmp_path / "run", ["B", "Woman", "(A) Man", "<answer>Woman</answer>"])
    table = {row["rule"]: row for row in rescored_table(rescore(path))}
    assert table["official"]["accuracy"] == 0.75 and table["official"]["behind"] == []
    assert table["official_raw"]["behind"] == ["0|an arm|0"] and table["official_raw"]["difference"] == -0.25
    assert (table["official"]["items"], table["official"]["clips"]) == (4, 2)
    assert table["lmms_eval"]["guessed"] == 2 and table["lmms_eval"]["accuracy"] == (1 + 0.25 + 0 + 0.25) / 4
    out = tmp_path / "table.json"
    assert main(["rescore", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "-25.0 points" in printed and "4 items of 2 clips" in printed and "answer 'Woman', reply 'B'" in printed
    assert len(json.loads(out.read_text())["versions"][0]["table"]) == 7


def test_another_version_of_the_questions_and_a_judge(tmp_path, capsys):
    path = run_of(tmp_path / "run", ["B", "Woman", "(A) Man", "Man"])
    entries = [
        {"id": str(n), "audio_id": f"{n}.wav", "question": "Who?", "choices": list(CHOICES), "answer": "Man"}
        for n in range(3)
    ]
    (tmp_path / "original.json").write_text(json.dumps(entries))
    other = {r["rule"]: r for r in rescored_table(rescore(path, items=read_items("mmau", tmp_path / "original.json")))}
    assert other["official"]["accuracy"] == pytest.approx(1 / 3) and other["official"]["items"] == 3
    (tmp_path / "judge.jsonl").write_text('{"key": "2|an arm|0", "right": true}\n')
    judged = {r["rule"]: r for r in rescored_table(rescore(path, verdicts=read_verdicts(tmp_path / "judge.jsonl")))}
    assert judged["judge"]["accuracy"] == 1.0 and judged["judge"]["items"] == 1
    command = [
        "rescore",
        str(path),
        "--data",
        str(tmp_path / "original.json"),
        "--judge",
        str(tmp_path / "judge.jsonl"),
    ]
    assert main(command) == 0 and capsys.readouterr().out.count("Answers scored by") == 2
    assert main([*command, "--reference", "luck"]) == 2 and "no rule 'luck'" in capsys.readouterr().err
    (tmp_path / "judge.jsonl").write_text('{"key": "2|an arm|0", "right": 7}\n')
    assert main(command) == 2 and "line 1" in capsys.readouterr().err


def test_nothing_to_score_is_an_error(tmp_path):
    path = run_of(tmp_path / "run", ["B"])
    with pytest.raises(RescoreError, match="no answer with a known truth"):
        rescore(path, arms=["another"])
