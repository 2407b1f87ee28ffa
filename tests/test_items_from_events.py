"""Tables of strong labels become items with exact truth, certified absences and questions that they decide."""

from __future__ import annotations

import numpy as np
import pytest

from mpar2.audio import SAMPLE_RATE, Clip, load_clip, wav_bytes
from mpar2.cli import main
from mpar2.items import ItemsError, read_items
from mpar2.items.events import items_from_events

DESED = "filename\tonset\toffset\tevent_label\na.wav\t3.847\t10.000\tFrying\na.wav\t0.5\t1.0\tAlarm_bell_ringing\n"
DESED += "b.wav\t\t\t\nc.wav\t1.0\t2.0\tDog\nc.wav\t4.0\t5.0\tDog\n"
AUDIOSET = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\tpresent\n"
AUDIOSET += (
    "YxlGt805lTA_30000\t2.627\t7.237\t/m/053hz1\tPRESENT\nYxlGt805lTA_30000\t0.0\t0.96\t/m/0bt9lr\tNOT_PRESENT\n"
)


def of(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_desed_has_clips_without_events_and_labels_in_snake_case(tmp_path, capsys):
    table = of(tmp_path / "validation.tsv", DESED)
    assert main(["items", "from-events", str(table), "--kind", "desed", "--out", str(tmp_path / "items.jsonl")]) == 0
    items = {item.id: item for item in read_items("jsonl", tmp_path / "items.jsonl").items}
    first = items["a.wav-first"]
    assert [event.label for event in first.events] == ["Alarm bell ringing", "Frying"]
    assert first.question.answer == "Alarm bell ringing" and first.truth_origin == "human"
    assert items["c.wav-count"].question.answer == "2" and "2" in items["c.wav-count"].question.choices
    assert items["b.wav-absence"].events == () and items["b.wav-absence"].question.answer == "no"
    assert "b.wav-count" not in items and "3 clips" in capsys.readouterr().out


def test_audioset_has_names_and_certified_absences_only(tmp_path):
    names = of(tmp_path / "names.tsv", "/m/053hz1\tCheering\n/m/0bt9lr\tDog\n")
    items = items_from_events(of(tmp_path / "eval.tsv", AUDIOSET), "audioset", names=names)
    assert {item.audio for item in items} == {"YxlGt805lTA_30000.wav"}
    assert items[0].events[0].label == "Cheering" and items[0].extra == {"absent": ["Dog"]}
    bare = AUDIOSET.replace("\tpresent", "").replace("\tPRESENT", "").splitlines()[:2]
    plain = items_from_events(of(tmp_path / "train.tsv", "\n".join(bare)), "audioset", names=names)
    assert not any("absent" in item.extra for item in plain), "what is not labelled may still be there"


def test_tacos_has_events_in_words(tmp_path):
    text = '\ufefffilename,text,onset,offset\n1.mp3,"a dog barks, twice",0.5,2.0\n1.mp3,background noise,0.0,9.0\n'
    text += "2.mp3,dog barking,0.5,2.0\n"
    (count, *rest) = items_from_events(of(tmp_path / "strong.csv", text), "tacos")
    assert not any("absent" in item.extra for item in rest), "other words may name the same sound"
    assert [event.label for event in count.events] == ["a dog barks, twice"] and count.audio == "1.mp3"


def test_maestro_joins_confident_seconds_and_urbansed_has_no_header(tmp_path):
    soft = "0\t1\tbirds_singing\t0.8\n1\t2\tbirds_singing\t0.6\n2\t3\tbirds_singing\t0.2\n5\t6\tbirds_singing\t0.9\n"
    items = items_from_events(of(tmp_path / "cafe_01.txt", soft), "maestro")
    assert [(e.onset_s, e.offset_s) for e in items[0].events] == [(0, 2), (5, 6)] and items[0].audio == "cafe_01.wav"
    assert items[0].extra["soft"] == [0.7, 0.9]
    folder = tmp_path / "urban"
    folder.mkdir()
    of(folder / "s0.txt", "0.5\t1.5\tdog_bark\n2.0\t3.0\tsiren\n")
    assert items_from_events(folder, "urbansed")[0].question.answer == "dog bark"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("desed", "file\tonset\n", "no column filename"),
        ("desed", DESED + "d.wav\tsoon\t2\tDog\n", "line 7: 'onset' is 'soon'"),
        ("desed", DESED + "d.wav\t3\t2\tDog\n", "line 7: the event ends"),
        ("desed", DESED + "d.wav\tnan\t2\tDog\n", "'onset' is 'nan'"),
        ("urbansed", "0.5\t1.5\n", "line 1: 2 columns"),
        ("tacos", "", "no column"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path, kind, text, message):
    with pytest.raises(ItemsError, match=message):
        items_from_events(of(tmp_path / "table", text), kind)


def test_recordings_of_minutes_are_cut_into_windows_with_their_audio(tmp_path, capsys):
    soft = "0\t1\tbirds_singing\t0.8\n9\t10\tbirds_singing\t0.6\n10\t11\tbirds_singing\t0.8\n14\t15\tcar\t0.3\n"
    table = of(tmp_path / "park_01.txt", soft + "24\t25\tcutlery_and_dishes\t1.0\n")
    (tmp_path / "audio").mkdir()
    ramp = np.linspace(-0.5, 0.5, 25 * SAMPLE_RATE, dtype=np.float32)
    (tmp_path / "audio" / "park_01.wav").write_bytes(wav_bytes(Clip(ramp)))
    out = tmp_path / "made" / "items.jsonl"
    command = ["items", "from-events", str(table), "--kind", "maestro", "--window", "10", "--out", str(out)]
    assert main(command) == 2 and "--audio-root" in capsys.readouterr().err
    assert main([*command, "--audio-root", str(tmp_path / "nowhere")]) == 2
    assert "1 of 1 recordings are not in" in capsys.readouterr().err
    assert main([*command, "--audio-root", str(tmp_path / "audio")]) == 0
    found = read_items("jsonl", out)
    assert not [problem for problem in found.problems if "not there" in problem]
    by_clip = {item.audio: item for item in found.items}
    assert list(by_clip) == [f"windows/park_01-{start}.wav" for start in (0, 10, 20)]
    first, second, third = by_clip.values()
    assert [(e.onset_s, e.offset_s) for e in first.events] == [(0, 1), (9, 10)] and first.extra["soft"] == [0.8, 0.7]
    assert [(e.onset_s, e.offset_s) for e in second.events] == [(0, 1)], "an event over the edge is in both windows"
    assert [(e.label, e.onset_s) for e in third.events] == [("cutlery and dishes", 4)]
    assert not any("car" in item.extra.get("absent", []) for item in found.items), "what may be there is not absent"
    assert load_clip(found.audio_path(third)).seconds == pytest.approx(5)
    assert load_clip(found.audio_path(second)).samples[0] == pytest.approx(-0.1, abs=1e-3)
