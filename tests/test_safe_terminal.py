"""Nothing that a command prints steers the terminal, and errors of the system come with advice."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from mpar2 import cli
from mpar2.terminal import advice_for, clean

STEERING = "\x1b[31m\x07\x9b\u202e\u2066\u2028\x08"


@pytest.mark.parametrize("command", ["evaluate", "reason", "rescore", "cafe", "items"])
def test_no_command_prints_what_steers_a_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    import importlib
    import sys

    module = importlib.import_module(f"mpar2.commands.{command}")

    def run(options: Any) -> int:
        print(STEERING)
        print(STEERING, file=sys.stderr)
        sys.stdout.writelines([STEERING])
        raise OSError(errno.EROFS, "Read-only file system", STEERING)

    monkeypatch.setattr(module, "configure", lambda parser: None)
    monkeypatch.setattr(module, "run", run)
    assert cli.main([command]) == 2
    shown = capsys.readouterr()
    assert not any(character in shown.out + shown.err for character in STEERING if not character.isprintable())
    assert "write to another folder" in shown.err


def test_cleaned_json_means_the_same() -> None:
    text = json.dumps({"name": STEERING}, ensure_ascii=False)
    assert json.loads(clean(text)) == {"name": STEERING}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EEXIST, errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_errors_of_the_system_say_what_to_do(number: int) -> None:
    message = advice_for(OSError(number, "words", "place"))
    assert message.startswith("place: words: ") and len(message) > 20
