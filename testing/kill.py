"""A command that is killed at random moments and started again, until it ends by itself.

    python -m testing.kill KILLS SEED SECONDS COMMAND...     (of ``mpar2``, or ``training`` and a command of it)

SECONDS is the duration of the command without kills.

Each start is a fork of one process with all imports, so that a restart does not start Python again. A fork is killed
after a random part of ``SECONDS``, and the remaining work shrinks with each start. Prints the number of kills and the
seconds of the last start, and exits with its status.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time


def killed_and_resumed(arguments: list[str], kills: int, seed: int, seconds: float) -> tuple[int, int, float]:
    """Run ``mpar2 ARGUMENTS`` with kills and restarts; return status, kills, and seconds of the last start."""
    if arguments[0] == "training":
        import training.run  # noqa: F401 - once, and not in each fork
        from training.__main__ import main

        arguments = arguments[1:]
    else:
        import openai  # noqa: F401

        from mpar2.cli import main

    rng, n_kills = random.Random(seed), 0
    while True:
        child = os.fork()
        if child == 0:
            os._exit(main(arguments))
        start = time.monotonic()
        end = start + (rng.uniform(0, seconds) if n_kills < kills else float("inf"))
        while (wait_result := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.001)
        if wait_result != (0, 0):
            return os.waitstatus_to_exitcode(wait_result[1]), n_kills, time.monotonic() - start
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        n_kills += 1


if __name__ == "__main__":
    status, times, took = killed_and_resumed(sys.argv[4:], int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    print(f"killed {times} times {took:.3f}")
    sys.exit(status)
