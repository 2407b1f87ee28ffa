"""Clean terminal output in one place: no text of a file or a model may control the terminal."""

from __future__ import annotations

import contextlib
import errno
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["advice_for", "clean", "cleaned_output"]

# C0 without tab, line feed and carriage return; C1; marks that change the direction of text or hide
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def clean(text: str) -> str:
    """Return ``text`` with control characters as ``\\uXXXX``, which is equivalent in JSON.

    >>> clean("a\\x1b[31mb")
    'a\\\\u001b[31mb'
    """
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class _Cleaned:
    """A stream that cleans its text; other attributes are the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(clean(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def cleaned_output() -> Iterator[None]:
    """Clean all output printed inside the block."""
    with (
        contextlib.redirect_stdout(_Cleaned(sys.stdout)),  # type: ignore[type-var]
        contextlib.redirect_stderr(_Cleaned(sys.stderr)),  # type: ignore[type-var]
    ):
        yield


_ADVICE = {
    errno.EROFS: "write to another folder",
    errno.EACCES: "choose another place, or change its permissions",
    errno.EPERM: "choose another place, or change its permissions",
    errno.EEXIST: "choose another name, or remove what is there",
    errno.ENOTDIR: "a file stands where a folder is needed: choose another name",
    errno.EISDIR: "a folder stands where a file is needed: name a file in it",
    errno.ENOENT: "check the path",
    errno.ENOSPC: "free some space, then start again",
    errno.EDQUOT: "free some space, then start again",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def advice_for(error: OSError) -> str:
    """Return an operating system's error as a message: problem, place, and remedy."""
    if error.strerror is None:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    advice = _ADVICE.get(error.errno or 0)
    return f"{where}{error.strerror}" + (f": {advice}" if advice else "")
