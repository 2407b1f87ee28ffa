"""Process untrusted files in a child process, with limits of memory and time.

An untrusted file may crash its reader, block it or exhaust the memory, and would block the interpreter that the models
share. So files are read in a child process. One warm process is reused. If it dies, only that request fails, and the
next request starts a new process. The child is started, not forked (``python -m MODULE``), inherits no keys from the
environment, writes no files, and ends when its parent's end of the pipe closes.

Protocol, in both directions: the length of a JSON header (4 bytes, big-endian), the header, then ``header["bytes"]``
bytes. A request has one or more replies; the last one is empty, with ``{"end": true}`` or the error
(``{"fault": …}``). Limits of memory and of processor time need ``resource`` (Linux, macOS); that of wall time works
everywhere.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Literal

from mpar2.errors import MPAR2Error

__all__ = ["Bounds", "ChildError", "Pool", "Reply", "serve"]

Reply = tuple[dict[str, Any], bytes | memoryview]

_IDLE = 1  # warm processes that wait for the next request
_REQUESTS = 1000  # per process, to bound the effect of memory leaks in libraries
_START_S = 120  # wall time for a new process to import its libraries
_TRACE_CHARS = 4000
_PIPE_BYTES = 1 << 20  # settable on Linux: fewer switches between the two processes
_SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True)
class Bounds:
    """Limits of one request: seconds of processor time, seconds of wall time, and memory.

    On a busy machine a process waits for the processor through no fault of its request, so allow several times as much
    wall time. Memory counts beyond that of the idle process.
    """

    cpu_s: int
    wall_s: int
    memory_bytes: int


class ChildError(Exception):
    """A request failed.

    Attributes:
        kind: ``refused`` (an error of this project), ``failed`` (another exception),
            ``memory`` or ``late`` (a limit was exceeded), ``crashed``, or ``absent`` (the process does not start).
        words: The error's message; for ``failed`` the exception's name; for ``crashed`` and ``absent`` the exit status.
        trace: For ``failed``, the traceback.
    """

    def __init__(
        self,
        kind: Literal["refused", "failed", "memory", "late", "crashed", "absent"],
        words: str = "",
        trace: str = "",
    ) -> None:
        super().__init__(kind, words, trace)
        self.kind, self.words, self.trace = kind, words, trace


class Pool:
    """A pool of children that run one module: an idle one, and the busy ones.

    Args:
        *command: Arguments of the interpreter that start the module, which calls :func:`serve`.
        busy: Largest number of concurrent requests; more wait.
        quiet: Discard their stderr, where libraries print notes about files.
    """

    def __init__(self, *command: str, busy: int, quiet: bool = True) -> None:
        self._command, self._busy, self._quiet = command, busy, quiet
        self._begin()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_fork)

    def ask(self, header: Mapping[str, Any], body: bytes, bounds: Bounds) -> Iterator[Reply]:
        """Send a request, and yield its replies. If the caller stops early, the process is ended.

        Raises:
            ChildError: The request failed.
        """
        while True:
            with self._lend() as child:
                used_before, begun = child.requests > 0, False
                try:
                    for reply in child.ask(header, body, bounds):
                        begun = True
                        yield reply
                    child.requests += 1
                    return
                except ChildError as error:
                    if error.kind in ("refused", "failed"):  # the process is still usable
                        child.requests += 1
                    else:
                        child.close()
                    # An earlier request may have damaged the process or filled its memory: retry in a new one.
                    if begun or not used_before or error.kind not in ("crashed", "memory"):
                        raise

    def close(self) -> None:
        """End the idle children."""
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _lend(self) -> Iterator[_Child]:
        with self._free:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is not None and not child.usable:
                child.close()
                child = None
            child = child or _Child(self._command, self._quiet)
            requests_before = child.requests
            try:
                yield child
            finally:
                with self._lock:
                    keep = child.requests > requests_before and child.usable and len(self._idle) < _IDLE
                    if keep:
                        self._idle.append(child)
                if not keep:
                    child.close()

    def _begin(self) -> None:
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(self._busy)

    def _in_fork(self) -> None:
        """Drop the children after a fork: they are the parent's, and a fork must neither hold nor use their pipes."""
        for child in self._idle:
            child.forget()
        self._begin()


class _Child:
    """One process and its pipes. Used by one thread at a time."""

    def __init__(self, command: tuple[str, ...], quiet: bool) -> None:
        environment = {key: value for key, value in os.environ.items() if not _SECRET.search(key)}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path) or os.curdir
        self.requests, self._ready = 0, False
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            env=environment,
            pipesize=_PIPE_BYTES,
        )

    @property
    def usable(self) -> bool:
        return self.requests < _REQUESTS and self._process.poll() is None

    def ask(self, header: Mapping[str, Any], body: bytes, bounds: Bounds) -> Iterator[Reply]:
        """Send one request and yield its replies; raise :class:`ChildError` for a fault or a missing reply."""
        late = threading.Event()
        timer = self._end_after(_START_S, late)
        try:
            if not self._ready:
                self._ready = _receive(self._process.stdout) is not None
            timer.cancel()
            if self._ready:
                timer = self._end_after(bounds.wall_s, late)
                _send(self._process.stdin, {**header, "bounds": asdict(bounds)}, body)
                while (reply := _receive(self._process.stdout)) is not None:
                    if reply[0].get("end"):
                        return
                    if "fault" in reply[0]:
                        raise ChildError(reply[0]["fault"], reply[0].get("words", ""), reply[0].get("trace", ""))
                    yield reply
        except OSError:  # the pipe has no reader any more
            pass
        finally:
            timer.cancel()
        self.close()
        status = self._process.returncode
        if late.is_set() or status == -getattr(signal, "SIGXCPU", 0):
            raise ChildError("late")
        raise ChildError("crashed" if self._ready else "absent", str(status))

    def _end_after(self, seconds: float, late: threading.Event) -> threading.Timer:
        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        return timer

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


# ---- the protocol --------------------------------------------------------------------------------------------------


def _send(pipe: BinaryIO, header: Mapping[str, Any], body: bytes | memoryview = b"") -> None:
    text = json.dumps({**header, "bytes": len(body)}).encode()
    pipe.write(struct.pack(">I", len(text)) + text)
    pipe.write(body)
    pipe.flush()


def _receive(pipe: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Return a header and its body; None if the other end is closed."""
    size = pipe.read(4)
    if len(size) < 4:
        return None
    header = json.loads(pipe.read(struct.unpack(">I", size)[0]) or b"{}")
    body = pipe.read(header.get("bytes", -1)) if header else b""
    return (header, body) if header and len(body) == header["bytes"] else None


# ---- the child -----------------------------------------------------------------------------------------------------


def serve(answer: Callable[[dict[str, Any], bytes], Iterable[Reply]], prepare: Callable[[], None]) -> None:
    """Answer the parent's requests until it closes the pipe. The child's module calls this.

    Args:
        answer: Returns the replies to the header and the body of a request.
        prepare: Called once, before the first request: imports what every request needs.
    """
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Prints of a library must not reach the replies.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is handled by the parent, which closes the pipe
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # Linux
        file.write("1000")  # the first process that the system ends when memory runs out
    prepare()
    base = _address_space()
    try:
        _send(replies, {"ready": True})
        _serve(answer, base, requests, replies)
    except BrokenPipeError:  # the parent ended this request; the rest has no reader
        os.dup2(null, replies.fileno())


def _serve(
    answer: Callable[[dict[str, Any], bytes], Iterable[Reply]], base: int, requests: BinaryIO, replies: BinaryIO
) -> None:
    while (request := _receive(requests)) is not None:
        header, body = request
        del request
        _limit(base, Bounds(**header["bounds"]))
        last: dict[str, Any] = {"end": True}
        try:
            for reply in answer(header, body):
                _send(replies, *reply)
        except BrokenPipeError:
            raise
        except MPAR2Error as error:
            last = {"fault": "refused", "words": str(error)}
        except Exception as error:  # an exception of a library on this file
            if _is_out_of_memory(error):
                last = {"fault": "memory"}
            else:
                trace = traceback.format_exc()[-_TRACE_CHARS:]
                last = {"fault": "failed", "words": type(error).__name__, "trace": trace}
        del body
        _send(replies, last)


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an exception, or one that led to it, reports that no memory was left.

    Besides ``MemoryError`` these are an ``OSError`` of a file that cannot be mapped, an ``ImportError`` of a library
    that cannot be mapped (it has a message alone), and a thread without memory for its stack.
    """
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if os.strerror(errno.ENOMEM) in str(error) or "can't start new thread" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _address_space() -> int:
    """Return the bytes of address space in use; 0 if unknown."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _limit(base: int, bounds: Bounds) -> None:
    """Set the limits of this process for its next request, as far as the system supports them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(usage.ru_utime + usage.ru_stime) + 1 + bounds.cpu_s
    limits = {"RLIMIT_CPU": cpu, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    if base:
        limits["RLIMIT_AS"] = base + bounds.memory_bytes
    for name, value in limits.items():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
