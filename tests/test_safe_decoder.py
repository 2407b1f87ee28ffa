"""Files are decoded in a child process: what kills it is a message about one file, and the next is served."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sounds import encode, refused, tone

from mpar2 import decoder
from mpar2.audio import AudioError, Limits, load_clip
from mpar2.child import Pool
from testing.hostile.sounds import good_wav

av = pytest.importorskip("av", reason="m4a, aac and webm need PyAV")

LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1", "7.1+TFC")
ENCODERS = (  # container, codec, format of its samples
    ("mp4", "aac", "flt"),
    ("adts", "aac", "flt"),
    ("matroska", "aac", "flt"),
    ("webm", "libopus", "flt"),
    ("mp4", "libopus", "flt"),
    ("matroska", "libvorbis", "flt"),
    ("matroska", "flac", "s16"),
    ("mp4", "flac", "s16"),
    ("matroska", "libmp3lame", "flt"),
)


def many_channels(container: str, codec: str, kind: str, channels: int, seconds: float = 0.5) -> bytes | None:
    """A 440 Hz tone in each channel; None where the encoder has no such layout."""
    buffer, layout = io.BytesIO(), LAYOUTS[channels - 1]
    samples = np.stack([tone(seconds, 48_000)] * channels)
    if kind == "s16":
        samples = (samples * 32767).astype(np.int16)
    try:
        assert av.AudioLayout(layout).nb_channels == channels
        with av.open(buffer, "w", format=container) as out:
            stream = out.add_stream(codec, rate=48_000)
            stream.layout = layout
            for start in range(0, samples.shape[1], 960):
                block = samples[:, start : start + 960]
                if not kind.endswith("p"):
                    block = np.ascontiguousarray(block.T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), kind, layout=layout)
                frame.sample_rate, frame.pts = 48_000, start
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    except (av.FFmpegError, ValueError):
        return None
    return buffer.getvalue()


@pytest.mark.parametrize("channels", range(1, 10))
def test_every_codec_with_every_number_of_channels(channels: int) -> None:
    loaded = 0
    for container, codec, kind in ENCODERS:
        data = many_channels(container, codec, kind, channels)
        if data is None:
            continue
        if channels > 8:
            assert "9 channels; the limit is 8" in refused(data)
            continue
        clip = load_clip(data)
        assert clip.seconds == pytest.approx(0.5, abs=0.1), (container, codec)
        assert np.abs(clip.samples).max() > 0.02, (container, codec)
        loaded += 1
    assert loaded >= {1: 8, 2: 8, 8: 6}.get(channels, 0), "the encoders are there"


FAULTS = """
import ctypes, mmap, os, runpy, sys, threading, time
import mpar2.audio
read = mpar2.audio.read_samples
leaked = []
def read_samples(source, limits):
    if source == b"crash":
        ctypes.string_at(0)
    if source == b"abort":
        os.abort()
    if source == b"loop":
        while True:
            pass
    if source == b"sleep":
        time.sleep(1000)
    if source == b"grow":
        bytearray(20_000_000_000)
    if source == b"map":
        mmap.mmap(-1, 20_000_000_000)
    if source == b"wrapped":  # a library that replaces the error by its own
        try:
            mmap.mmap(-1, 20_000_000_000)
        except OSError as error:
            raise ValueError("not readable") from error
    if source == b"import":
        raise ImportError("libx.so: failed to map segment from shared object: Cannot allocate memory")
    if source == b"thread":
        threading.stack_size(20_000_000_000)
        threading.Thread(target=print).start()
    if source == b"leak":  # damage that only a later file meets
        leaked.append(1)
    elif leaked:
        os.abort()
    if source == b"print":
        os.write(1, b"noise of a library")
        raise ValueError("odd")
    return read(source if source != b"leak" else b"", limits)
mpar2.audio.read_samples = read_samples
runpy.run_module("mpar2.decoder", run_name="__main__")
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child whose libraries have the faults that hostile files trigger."""
    script = tmp_path / "faulty.py"
    script.write_text(FAULTS)
    monkeypatch.setattr(decoder, "_pool", Pool("-P", str(script), busy=4))
    yield
    decoder._pool.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"crash", "decoder crashed"), (b"abort", "decoder crashed"), (b"print", "cannot be decoded")],
)
def test_a_crash_is_a_message_and_the_next_file_is_served(faulty: None, content: bytes, words: str) -> None:
    for _ in range(2):
        assert words in refused(content)
        assert load_clip(good_wav()).seconds == 1.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are those of Linux")
@pytest.mark.parametrize("content", [b"grow", b"map", b"wrapped", b"import", b"thread"])
def test_memory_is_limited(faulty: None, content: bytes) -> None:
    for _ in range(2):  # in a new process, and in one that has decoded a file before
        assert "more memory" in refused(content)
        assert load_clip(good_wav()).seconds == 1.0


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processor time are POSIX")
def test_processor_time_is_limited(faulty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    message = refused(b"loop", limits=Limits(max_seconds=10))
    assert "longer than 8 s" in message and time.monotonic() - begun < 60
    assert load_clip(good_wav()).seconds == 1.0


def test_time_is_limited(faulty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_cpu_s", lambda limits: 1)
    assert "longer than 1 s" in refused(b"sleep")


def test_a_file_does_not_suffer_for_the_one_before_it(faulty: None) -> None:
    for _ in range(2):
        refused(b"leak")
        assert load_clip(good_wav()).seconds == 1.0


def test_one_child_is_used_again_and_many_threads_get_their_own_sound() -> None:
    load_clip(good_wav())
    (first,) = decoder._pool._idle
    load_clip(good_wav())
    assert decoder._pool._idle == [first]
    clips: dict[int, float] = {}

    def load(number: int) -> None:
        clips[number] = load_clip(encode(tone(0.2 + 0.01 * number), kind="WAV")).seconds

    threads = [threading.Thread(target=load, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(clips[number] == pytest.approx(0.2 + 0.01 * number, abs=0.001) for number in range(24))
    assert len(decoder._pool._idle) == 1


def _run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_gets_a_child_of_its_own() -> None:
    done = _run(
        """
        import os
        from mpar2 import decoder
        from mpar2.audio import load_clip
        from testing.hostile.sounds import good_wav
        load_clip(good_wav())
        mine = decoder._pool._idle[0]._process.pid
        if os.fork() == 0:
            load_clip(good_wav())
            print(decoder._pool._idle[0]._process.pid != mine, flush=True)
            decoder._pool.close()
            os._exit(0)
        os.wait()
        print(load_clip(good_wav()).seconds, decoder._pool._idle[0]._process.pid == mine)
        """
    )
    assert done.stdout.split() == ["True", "1.0", "True"], done


def test_the_child_ends_with_its_parent_and_holds_no_key() -> None:
    done = _run(
        """
        import os
        from mpar2 import decoder
        from mpar2.audio import load_clip
        from testing.hostile.sounds import good_wav
        load_clip(good_wav())
        pid = decoder._pool._idle[0]._process.pid
        print(pid)
        if os.path.exists(f"/proc/{pid}/environ"):
            print(b"marked" in open(f"/proc/{pid}/environ", "rb").read())
        """,
        GEMINI_API_KEY="marked",
    )
    pid, *shown = done.stdout.split()
    assert done.returncode == 0 and shown in ([], ["False"]) and not done.stderr, done
    if hasattr(os, "kill") and sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_child_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_pool", Pool("-c", "raise SystemExit(3)", busy=4))
    with pytest.raises(AudioError, match="does not start.*status 3"):
        load_clip(good_wav())
