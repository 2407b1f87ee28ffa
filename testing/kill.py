"""A command that is killed at random moments and started again, until it ends by itself.

    python -m testing.kill KILLS SEED SECONDS COMMAND...     (of ``mpar2``, or ``training`` and a command of it)

SECONDS is the time that it takes undisturbed.

Each start is a fork of one process that has imported everything, so that a kill costs no start of Python. The first
kills come early (a fork is killed after a random part of ``SECONDS``); what remains is shorter each time. Prints the
number of kills and the seconds of the last start; exit status of the last start.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

__all__ = ["killed_and_resumed"]


def killed_and_resumed(arguments: list[str], kills: int, seed: int, seconds: float) -> tuple[int, int, float]:
    """Run ``mpar2 ARGUMENTS``; return its exit status, how often it was killed, and seconds of the last start."""
    if arguments[0] == "training":
        import training.run  # noqa: F401 - once, and not in each fork
        from training.__main__ import main

        arguments = arguments[1:]
    else:
        import openai  # noqa: F401

        from mpar2.cli import main

    chance, done = random.Random(seed), 0
    while True:
        child = os.fork()
        if child == 0:
            os._exit(main(arguments))
        begun = time.monotonic()
        end = begun + (chance.uniform(0, seconds) if done < kills else float("inf"))
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.001)
        if ended != (0, 0):
            return os.waitstatus_to_exitcode(ended[1]), done, time.monotonic() - begun
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done += 1


if __name__ == "__main__":
    status, times, took = killed_and_resumed(sys.argv[4:], int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    print(f"killed {times} times {took:.3f}")
    sys.exit(status)
