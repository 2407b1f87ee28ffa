"""The base of every error that this project raises for a person to read."""

from __future__ import annotations

__all__ = ["MPAR2Error"]


class MPAR2Error(Exception):
    """Report bad input or an outside failure: the message says what is wrong and what to do about it.

    The shell prints the message and exits with status 2; the app shows it. Any other exception is a fault of the
    program.
    """
