"""The base class of all errors with messages for users."""

from __future__ import annotations

__all__ = ["MPAR2Error"]


class MPAR2Error(Exception):
    """Report bad input or an external failure; the message gives the cause and the remedy.

    The shell prints the message and exits with status 2; the app shows it. Any other exception is a bug.
    """
