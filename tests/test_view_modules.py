"""The pure parts of the views' modules, in Node.js: label files, the axis, word diffs, addresses; and their syntax."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.bundle import bundle
from pages.export import VIEW

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted([*VIEW.glob("*.js"), *(ROOT / "analysis" / "view").glob("*.js")])
node = shutil.which("node")
in_node = pytest.mark.skipif(node is None, reason="no Node.js found: the modules are run in it")


def run(script: str, *modules: str) -> object:
    """What ``script`` writes to ``out`` with the modules before it."""
    code = f"{bundle(*(VIEW / module for module in modules))}\nlet out;\n{script}\nconsole.log(JSON.stringify(out));"
    ran = subprocess.run([str(node), "-e", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@in_node
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_module_parses(path: Path) -> None:
    command = [str(node), "--check", "--input-type=module"]
    ran = subprocess.run(command, input=path.read_text("utf-8"), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_the_concatenator_refuses_what_it_would_break(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\nexport const a = b;\n', "utf-8")
    (tmp_path / "b.js").write_text("export const b = 1;\n", "utf-8")
    joined = bundle(tmp_path / "a.js")
    assert joined.index("const b") < joined.index("const a") and "import" not in joined and "export" not in joined
    (tmp_path / "c.js").write_text('import { b } from "./b.js";\nexport const b = 2;\n', "utf-8")
    with pytest.raises(ValueError, match="both declare b"):
        bundle(tmp_path / "c.js")
    (tmp_path / "d.js").write_text('import { d } from "./e.js";\nexport const e = d;\n', "utf-8")
    (tmp_path / "e.js").write_text('import { e } from "./d.js";\nexport const d = e;\n', "utf-8")
    with pytest.raises(ValueError, match="import each other"):
        bundle(tmp_path / "d.js")
    (tmp_path / "f.js").write_text("export default 1;\n", "utf-8")
    with pytest.raises(ValueError, match="form"):
        bundle(tmp_path / "f.js")


@in_node
def test_label_files_go_out_and_come_back_and_bad_lines_are_named() -> None:
    events = [
        {"label": "dog\tbark", "onset_s": 0.5, "offset_s": 1.25},
        {"label": "rain", "onset_s": None, "offset_s": None},
    ]
    script = f"""
        const text = toLabels({json.dumps(events)});
        const others = '\\uFEFF0,5\\t1,5\\tsiren\\r\\n\\\\\\t100\\t200\\nno\\n3\\t2\\tx\\n';
        out = [text, fromLabels(text, 8), fromLabels(others, 8)];
    """
    text, back, read = run(script, "labels.js")
    assert text == "0.500000\t1.250000\tdog bark\n"
    assert back == {"events": [{"label": "dog bark", "onset_s": 0.5, "offset_s": 1.25}], "problems": []}
    assert read["events"] == [{"label": "siren", "onset_s": 0.5, "offset_s": 1.5}] and len(read["problems"]) == 2


@in_node
def test_typed_events_are_read_as_the_server_reads_them() -> None:
    from mpar2.question import QuestionError
    from pages.running import parse_events

    lines = ["dog bark 0.5-1.5", "dog bark 1,0 - 1,5", "siren 2s–3.5s", "rain", "MP3 player", "R2-D2", "bad line - x"]
    lines += ["1-2", "dog 7-99", "dog 3-2", "dog 0,5", "dog 1:20-1:30", "x" * 200]
    for line in lines:
        found = run(f"out = eventsOf({json.dumps(line)}, 8);", "labels.js")
        try:
            expected = parse_events(line, 8.0)
        except QuestionError:
            assert found["events"] == [] and found["problems"], line
        else:
            said = [(event.label, event.onset_s, event.offset_s) for event in expected]
            assert [(e["label"], e["onset_s"], e["offset_s"]) for e in found["events"]] == said, line


@in_node
def test_the_axis_keeps_its_window_inside_the_clip() -> None:
    script = """
        const axis = new TimeAxis();
        axis.width = 600;
        axis.open(6);
        const seen = [[axis.x(3), axis.t(300)]];
        axis.zoom(2, 5.9); seen.push([axis.t0, axis.t1]);
        axis.pan(100); seen.push([axis.t0, axis.t1]);
        axis.zoom(1e9, 0); seen.push([axis.t0, axis.t1 - axis.t0]);
        axis.zoom(1e-9); seen.push([axis.t0, axis.t1]);
        const ticks = axis.ticks();
        out = [seen, ticks, [1e5, 1e9].map((seconds) => (axis.open(seconds), axis.ticks().length))];
    """
    (seen, ticks, numbers) = run(script, "axis.js")
    assert all(5 <= number <= 20 for number in numbers), "however long a clip says it is"
    assert seen[0] == [300, 3] and seen[1][1] <= 6 and seen[2] == [3, 6]
    assert abs(seen[3][1] - 0.2) < 1e-9 and seen[4] == [0, 6]
    assert ticks[0] == 0 and ticks[-1] == 6 and len(ticks) <= 13


@in_node
def test_a_word_diff_holds_every_word_of_both() -> None:
    script = "out = wordDiff('<think>there is a dog then a bell</think>', 'there is a cat then a bell');"
    runs = run(script, "diff.js")
    assert [r for r in runs if r["kind"] != "both"] == [
        {"kind": "first", "words": ["dog"]},
        {"kind": "second", "words": ["cat"]},
    ]
    first = [word for r in runs if r["kind"] != "second" for word in r["words"]]
    assert " ".join(first) == "there is a dog then a bell"


@in_node
def test_a_choice_is_written_into_the_address_and_read_back() -> None:
    script = """
        const doc = { truth: { events: [1, 2] }, arms: [{ words: [1, 2], cafe: null, attention: null },
          { words: [1], cafe: { claims: [1, 2, 3] }, attention: { passages: [1] } }] };
        out = ['e1', '1c2', '1p0', '0w1', '1c3', '0c0', '7w0', 'w', '', '1w99999'].map((text) => choiceOf(text, doc));
        out.push(choiceText({ arm: 1, claim: 2 }), choiceText(null));
    """
    found = run(script, "address.js")
    assert found[:4] == [
        {"arm": 0, "event": 1},
        {"arm": 1, "claim": 2},
        {"arm": 1, "passage": 0},
        {"arm": 0, "word": 1},
    ]
    assert found[4:10] == [None] * 6 and found[10:] == ["1c2", None]


@in_node
def test_a_cut_sound_is_a_wav_file() -> None:
    script = "out = Array.from(new Uint8Array(wavBytes(new Float32Array([0, 1, -1, 2]), 16000)));"
    data = bytes(run(script, "sound_file.js"))
    assert data[:4] == b"RIFF" and data[8:12] == b"WAVE" and len(data) == 52
    assert data[44:] == bytes([0, 0, 255, 127, 1, 128, 255, 127])
