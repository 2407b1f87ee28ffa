"""Faults of the machine and of what the app is given: nothing written is lost, and the app goes on."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mpar2.engines.base import EngineError
from mpar2.runs import read_run
from pages.errors import message_of
from pages.services import Uploads

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_a_disk_that_fills_up_costs_one_line_at_most(tmp_path: Path) -> None:
    """Files may grow to 20 kB, in a process of its own; then the disk "has room again" and the run goes on."""
    script = f"""
        import resource, signal, sys
        from pathlib import Path
        from mpar2.runs import RunError, RunWriter
        from mpar2.runs.lines import write_json
        from tests.test_runs import manifest, record

        room = int(sys.argv[1])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            with RunWriter(Path({str(tmp_path / "run")!r}), manifest()) as writer:
                for number in range(60):
                    line = record(str(number), text="x" * 700)
                    if line["key"] not in writer.done:
                        writer.append(line)
                print("whole", len(writer.done))
                writer.finish({{"items": ["x" * 50] * 400 if room < 30_000 else []}})
        except RunError as error:
            print(error)
    """

    def run(room: int) -> str:
        command = [sys.executable, "-c", textwrap.dedent(script), str(room)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=_environment())
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run(20_000)
    assert "cannot be written (File too large): free some space" in said and "kept" in said
    before = [record["id"] for record in read_run(tmp_path / "run").records()]
    assert 5 < len(before) < 60 and (tmp_path / "run" / "items.jsonl").read_bytes().endswith(b"\n")
    assert "whole 60" in run(1_000_000)
    after = [record["id"] for record in read_run(tmp_path / "run").records()]
    assert after == [str(number) for number in range(60)] and after[: len(before)] == before
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.endswith(".tmp")]


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}


def test_messages_keep_the_machines_folders_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shown = message_of(EngineError(f"the weights of '{tmp_path}/a/base' cannot be loaded: see {tmp_path}/a/x.json"))
    assert shown == "the weights of 'base' cannot be loaded: see x.json"
    kept = "it lists its models at /v1/models; like https://host/v1/models, 3/4 and wav/flac"
    assert message_of(EngineError(kept)) == kept


def test_an_upload_goes_with_the_last_who_holds_it(tmp_path: Path) -> None:
    import os

    old, new = tmp_path / "old.wav", tmp_path / "new.wav"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    uploads = Uploads()
    for session in ("a", "b"):
        uploads.hold(session, str(old))
    uploads.hold("a", str(new))
    uploads.hold("a", str(tmp_path / "gone.wav"))
    uploads.release("a")
    assert old.exists() and new.exists(), "one is held by b, the other may have just been sent by somebody else"
    uploads.release("b")
    uploads.release("nobody")
    assert not old.exists()
