"""MMAU-Pro, MMSU, AudioMCQ and caption sets, on typed rows of their forms with their traps."""

from __future__ import annotations

import json

import pytest

from mpar2.cafe.truth import choose_truth
from mpar2.cli import main
from mpar2.items import ItemsError, read_items
from mpar2.items.captions import items_from_captions

PRO = [
    {"id": "p1", "audio_path": ["data/1.wav"], "question": "Which?", "answer": "Rain", "choices": ["Rain", "Wind"]},
    {"id": "p2", "audio_path": ["data/1.wav", "data/2.wav"], "question": "Both?", "answer": "A", "choices": ["A", "B"]},
    {"id": "p3", "audio_path": ["data/1.wav"], "question": "Open?", "answer": "a bell", "choices": []},
    {"id": "p4", "audio_path": ["data/1.wav"], "question": "In three words.", "answer": None, "choices": []},
]
PRO[0] |= {"category": "sound", "sub-cat": "scene", "length_type": "short", "perceptual_skills": ["Source"]}
MMSU = {"id": "age_1", "task_name": "age_prediction", "audio_path": "./audio/age_1.wav", "question": "How old?"}
MMSU |= {"category": "Perception", "answer": "old"}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_mmau_pro_counts_what_it_leaves_out(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(PRO), tmp_path / "test.parquet")
    found, same = (
        read_items("mmau-pro", tmp_path / "test.parquet"),
        read_items("mmau-pro", lines(tmp_path / "t.jsonl", PRO)),
    )
    assert found.items == same.items and found.fingerprint == same.fingerprint
    (item,) = found.items
    assert (item.audio, item.question.answer, item.question.category) == ("data/1.wav", "Rain", "sound")
    assert item.question.sub_category == "scene" and item.extra["perceptual_skills"] == ["Source"]
    left = [problem for problem in found.problems if "left out" in problem]
    assert len(left) == 3 and "1 rows are left out: they ask about several clips" in left
    (tmp_path / "test.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ItemsError, match="cannot be read as parquet"):
        read_items("mmau-pro", tmp_path / "test.parquet")
    with pytest.raises(ItemsError, match="no row can be asked"):
        read_items("mmau-pro", lines(tmp_path / "t.jsonl", PRO[1:]))


@pytest.mark.parametrize(
    ("row", "choices", "answer"),
    [
        ({"choices": {"B": "young", "A": None, "C": None, "D": "old"}}, ("young", "old"), "old"),
        ({"choices": {"A": None, "B": "young", "C": None, "D": "old"}, "answer": "D"}, ("young", "old"), "old"),
        (
            {"choice_a": "old", "choice_b": "young", "choice_c": "child", "choice_d": "baby"},
            ("old", "young", "child", "baby"),
            "old",
        ),
        (
            {"choice_a": "old", "choice_b": "young", "choice_c": "x", "choice_d": "y", "answer": "B"},
            ("old", "young", "x", "y"),
            "young",
        ),
        ({"choices": ["young", "old"], "answer": "B"}, ("young", "old"), "old"),
    ],
)
def test_mmsu_has_choices_by_letter_and_nulls_between_them(tmp_path, row, choices, answer):
    (item,) = read_items("mmsu", lines(tmp_path / "mmsu.jsonl", [MMSU | row])).items
    assert item.question.choices == choices and item.question.answer == answer
    assert item.question.domain == "speech" and item.question.sub_category == "age_prediction"


def test_audiomcq_and_the_dcase_sets_name_their_columns_apart(tmp_path):
    first = {"id": 7, "audio_path": "a/7.wav", "question": "Which?", "choices": ["dog", "cat"], "answer": "cat"}
    first |= {"question_type": "sound", "source_dataset": "TACOS"}
    second = {
        "id": "d1",
        "audio_path": "d1.wav",
        "question_text": "Which?",
        "multi_choice": ["dog", "cat"],
        "answer": "A",
    }
    lines(tmp_path / "1.jsonl", [first])
    (tmp_path / "2.json").write_text(json.dumps([second]))
    one, two = read_items("audiomcq", tmp_path).items
    assert one.id == "7" and one.question.category == "sound" and one.extra == {"source_dataset": "TACOS"}
    assert two.question.answer == "dog" and two.audio == "d1.wav"
    with pytest.raises(ItemsError, match="row 1: 'choices' is None"):
        read_items("audiomcq", lines(tmp_path / "1.jsonl", [{"question": "Which?"}]))
    with pytest.raises(ItemsError, match="has no file of questions"):
        read_items("audiomcq", (tmp_path / "empty").mkdir() or tmp_path / "empty")


def test_captions_of_one_clip_stand_together(tmp_path, capsys):
    table = tmp_path / "test.csv"
    table.write_text(
        'audiocap_id,youtube_id,start_time,caption\n1,6BJ455B1aAs,0,"A rocket flies by, then an explosion"\n'
        "2,6BJ455B1aAs,0,A loud explosion\n3,6BJ455B1aAs,0,A loud explosion\n4,zzz,30,A dog barks\n"
    )
    out = tmp_path / "items.jsonl"
    assert main(["items", "from-captions", str(table), "--kind", "audiocaps", "--out", str(out)]) == 0
    assert "2 items of 2 clips" in capsys.readouterr().out
    rocket, dog = read_items("jsonl", out).items
    assert rocket.audio == "6BJ455B1aAs_0.wav" and dog.audio == "zzz_30.wav"
    assert rocket.caption == "A rocket flies by, then an explosion\nA loud explosion"
    assert len(rocket.extra["captions"]) == 3, "how often people agree is kept"
    truth = choose_truth(rocket, which="caption")
    assert truth.caption == rocket.caption and truth.origin == "human" and truth.events is None
    named = items_from_captions(table, "audiocaps", audio_name="Y{youtube_id}.wav")
    assert named[1].audio == "Yzzz.wav"
    with pytest.raises(ItemsError, match=r"can use \{audiocap_id\}"):
        items_from_captions(table, "audiocaps", audio_name="{video}.wav")
    with pytest.raises(ItemsError, match="no column file_name"):
        items_from_captions(table, "clotho")


def test_clotho_has_five_columns_and_mecat_a_class_of_silence(tmp_path):
    table = tmp_path / "clotho_captions_evaluation.csv"
    table.write_text("file_name,caption_1,caption_2\nRain on roof.wav,Rain falls.,It rains.\n")
    assert items_from_captions(table, "clotho")[0].caption == "Rain falls.\nIt rains."
    folder = tmp_path / "mecat"
    folder.mkdir()
    lines(folder / "00A.jsonl", [{"k1": {"short": ["An engine."], "long": ["An engine idles."], "music": ["None."]}}])
    lines(folder / "000.jsonl", [{"k2": {"short": ["Silence."], "long": []}}])
    silence, engine = items_from_captions(folder, "mecat")
    assert silence.events == () and engine.events is None and engine.audio == "k1.flac"
    assert engine.caption == "An engine.\nAn engine idles."
    lines(folder / "00A.jsonl", [{"k1": {"music": ["None."]}}])
    with pytest.raises(ItemsError, match="line 1: 'k1' has no 'short'"):
        items_from_captions(folder, "mecat")
