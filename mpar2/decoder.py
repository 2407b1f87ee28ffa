"""Decode audio files in a process of its own, with limits of memory and time.

Decoders are large C libraries: a crafted file may crash them, hold them up or fill the memory. So every file is
decoded in a child process. One stays warm and is used again; what kills it is a message about that one file, and the
next file meets a new process. The child is started, not forked (``python -m mpar2.decoder``), holds none of the
environment's keys, writes no files, and ends when its parent's end of the pipe closes.

The wire, both ways: the length of a JSON header (4 bytes, big-endian), the header, then ``header["bytes"]`` bytes.
Limits of memory and of processor time need ``resource`` (Linux, macOS); the limit of time holds everywhere.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from mpar2.formats import AudioError, Limits

__all__ = ["decode_file"]

_IDLE = 1  # warm processes that wait for the next file
_BUSY = 4  # files decoded at once; more wait
_FILES = 1000  # of one process: what a library leaks goes with it
_SPARE_BYTES = 700_000_000  # of address space, beside the imported libraries and the clip
_PIPE_BYTES = 1 << 20  # where the system lets it be chosen (Linux): fewer turns between the two processes
_COMMAND = ("-P", "-m", "mpar2.decoder")
_SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


class _ProcessEnded(Exception):
    """The child has died or was ended; ``late`` where it was too slow."""

    def __init__(self, status: int | None, late: bool) -> None:
        super().__init__(status, late)
        self.status, self.late = status, late


def decode_file(source: bytes | str, limits: Limits) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a file in a child process.

    Args:
        source: The content of a file, or its path.
        limits: What a recording may be.

    Returns:
        Mono samples at 16 kHz, (n,) float32 in [-1, 1]; and warnings about them.

    Raises:
        AudioError: The file is no usable recording, or it crashed or held up the decoder.
    """
    while True:
        with _pool.lend() as child:
            used_before = child.files > 0
            try:
                header, body = child.ask(source, limits)
            except _ProcessEnded as end:
                if used_before and not end.late:
                    continue  # an earlier file may have damaged the process: this one gets a new process
                raise AudioError(_words_of_end(end, limits)) from None
        if "fault" in header:
            if used_before and header.get("memory"):
                continue
            raise AudioError(header["fault"])
        return np.frombuffer(body, np.float32), tuple(header["warnings"])


def _words_of_end(end: _ProcessEnded, limits: Limits) -> str:
    import signal

    late = end.late or end.status == -getattr(signal, "SIGXCPU", 0)
    if late:
        return (
            f"decoding took longer than {_cpu_s(limits)} s, the limit: the file may be damaged, or made to hold up "
            "programs; export it again as wav or flac"
        )
    return (
        f"the decoder crashed at this file (exit status {end.status}): the file may be damaged or made to crash "
        "programs; export it again as wav or flac"
    )


def _cpu_s(limits: Limits) -> int:
    """Return seconds of processor time for one file; a minute of sound takes a fraction of a second."""
    return 8 + int(limits.max_seconds) // 60


class _Child:
    """One process and its pipes. Used by one thread at a time."""

    def __init__(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not _SECRET.search(key)}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path) or os.curdir
        self.files, self._ready = 0, False
        self._process = subprocess.Popen(
            [sys.executable, *_COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders write notes about files there
            env=environment,
            pipesize=_PIPE_BYTES,
        )

    @property
    def usable(self) -> bool:
        return self.files < _FILES and self._process.poll() is None

    def ask(self, source: bytes | str, limits: Limits) -> tuple[dict[str, Any], bytes]:
        """Send one file, receive its samples; raise :class:`_ProcessEnded` where the process does not survive it."""
        path = source if isinstance(source, str) else None
        content = b"" if isinstance(source, str) else source
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        # Processor time is limited in the child; on a busy machine a file waits for it, which is not its fault.
        timer = threading.Timer(6 * _cpu_s(limits), end)
        timer.daemon = True
        timer.start()
        try:
            if not self._ready and _receive(self._process.stdout) is None and not late.is_set():
                self.close()
                raise AudioError(
                    f"the process that decodes audio does not start (exit status {self._process.returncode}): run "
                    "'python -m mpar2.decoder' to see why"
                )
            self._ready = True
            _send(self._process.stdin, {"path": path, "limits": asdict(limits)}, content)
            reply = _receive(self._process.stdout)
        except OSError:  # the pipe has no reader any more
            reply = None
        finally:
            timer.cancel()
        if reply is None:
            self.close()
            raise _ProcessEnded(self._process.returncode, late.is_set())
        self.files += 1
        return reply

    def close(self) -> None:
        """End the process, and wait for it."""
        self.forget()
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """Close this process's ends of the pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, AttributeError):
                pipe.close()  # type: ignore[union-attr]


class _Pool:
    """Idle children, and a count of those at work."""

    def __init__(self) -> None:
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(_BUSY)

    @contextlib.contextmanager
    def lend(self) -> Iterator[_Child]:
        with self._free:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is not None and not child.usable:
                child.close()
                child = None
            child = child or _Child()
            whole = False
            try:
                yield child
                whole = True
            finally:
                with self._lock:
                    keep = whole and child.usable and len(self._idle) < _IDLE
                    if keep:
                        self._idle.append(child)
                if not keep:
                    child.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def forget(self) -> None:
        """In a fork: the children are the parent's. Its pipes must not be held open here, nor written to."""
        for child in self._idle:
            child.forget()


_pool = _Pool()
atexit.register(lambda: _pool.close())


def _in_fork() -> None:
    global _pool
    _pool.forget()
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_fork)


# ---- the wire ------------------------------------------------------------------------------------------------------


def _send(pipe: BinaryIO, header: dict[str, Any], body: bytes | memoryview = b"") -> None:
    text = json.dumps(header | {"bytes": len(body)}).encode()
    pipe.write(struct.pack(">I", len(text)) + text)
    pipe.write(body)
    pipe.flush()


def _receive(pipe: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Return a header and its body; None where the other end closed."""
    size = pipe.read(4)
    if len(size) < 4:
        return None
    header = json.loads(pipe.read(struct.unpack(">I", size)[0]) or b"{}")
    body = pipe.read(header.get("bytes", -1)) if header else b""
    return (header, body) if header and len(body) == header["bytes"] else None


# ---- the child -----------------------------------------------------------------------------------------------------


def _main() -> None:
    import signal

    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # A library that prints must not print into the replies.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the parent's business; it closes the pipe
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # Linux
        file.write("1000")  # where memory runs out, this process is ended first
    from mpar2.audio import read_samples

    for library in ("soundfile", "soxr", "av"):  # before the limit of memory is set
        with contextlib.suppress(Exception):
            __import__(library)
    base = _address_space()
    _send(replies, {"ready": True})
    while (request := _receive(requests)) is not None:
        header, content = request
        limits = Limits(**header["limits"])
        _limit(base, limits)
        source = content if header["path"] is None else header["path"]
        del request, content
        try:
            samples, warnings = read_samples(source, limits)
        except AudioError as error:
            _send(replies, {"fault": str(error)})
        except MemoryError:
            words = "decoding takes more memory than a recording needs: the file may be damaged; export it again as wav"
            _send(replies, {"fault": words, "memory": True})
        except Exception as error:  # a library's own fault at this file
            words = f"the file cannot be decoded ({type(error).__name__}): it may be damaged; export it again as wav"
            _send(replies, {"fault": words})
        else:
            _send(replies, {"warnings": warnings}, memoryview(samples).cast("B"))


def _address_space() -> int:
    """Return bytes of address space in use; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _limit(base: int, limits: Limits) -> None:
    """Set the limits of this process for its next file, as far as the system knows them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime) + 1 + _cpu_s(limits)
    clip = int(limits.max_seconds * 16_000 * 4)
    wanted = {"RLIMIT_CPU": cpu, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    if base:
        wanted["RLIMIT_AS"] = base + _SPARE_BYTES + 4 * clip + limits.max_bytes
    for name, value in wanted.items():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    _main()
