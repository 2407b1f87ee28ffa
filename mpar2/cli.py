"""The ``mpar2`` command. It only dispatches: each command is a module of :mod:`mpar2.commands`, or an entry point.

Exit status: 0 success, 1 the command reports a failure, 2 bad input (a message on stderr gives the cause and the
remedy), 130 interrupted.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mpar2 import __version__, commands
from mpar2.errors import MPAR2Error
from mpar2.terminal import advice_for, cleaned_output

__all__ = ["command_modules", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # unencodable characters are replaced, not fatal
    with cleaned_output():
        return _run(list(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    _load_plugins()
    parser = argparse.ArgumentParser(prog="mpar2", description="See, measure and train away audio perception decay.")
    parser.add_argument("--version", action="version", version=f"mpar2 {__version__}")
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    module = None
    for name, path in sorted(command_modules().items()):
        help_line = _help_line(path)
        chosen = choices.add_parser(name, help=help_line, description=help_line)
        if arguments[:1] == [name]:  # other commands are not imported
            try:
                module = importlib.import_module(path)
                module.configure(chosen)
            except ModuleNotFoundError as error:
                advice = "install the project with its requirements.txt"
                print(f"mpar2 {name}: it needs {error.name}, which is not installed: {advice}", file=sys.stderr)
                return 2
            _describe_tasks(chosen)
    options = parser.parse_args(arguments)
    assert module is not None  # argparse has left otherwise
    try:
        return module.run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has closed, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MPAR2Error as error:  # bad input
        print(f"mpar2 {options.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a file that cannot be read or written
        print(f"mpar2 {options.command}: {advice_for(error)}", file=sys.stderr)
        return 2


def _describe_tasks(parser: argparse.ArgumentParser) -> None:
    """Begin the help of each task of a command with the line that lists it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for line in action._choices_actions:
                action.choices[line.dest].description = line.help


def _load_plugins() -> None:
    """Import the modules that installed packages register in the entry point group ``mpar2``."""
    for plugin in importlib.metadata.entry_points(group="mpar2"):
        try:
            plugin.load()
        except Exception as error:  # a broken package must not break commands that do not need it
            print(f"note: the plugin {plugin.name} ({plugin.value}) cannot be imported: {error}", file=sys.stderr)


def command_modules() -> dict[str, str]:
    """Return the module of each command, from :mod:`mpar2.commands` and the entry points ``mpar2.commands``."""
    names = [info.name for info in pkgutil.iter_modules(commands.__path__) if not info.name.startswith("_")]
    plugins = importlib.metadata.entry_points(group=commands.__name__)
    return {name.replace("_", "-"): f"{commands.__name__}.{name}" for name in names} | {
        p.name: p.value for p in plugins
    }


def _help_line(module: str) -> str:
    """Return the first line of a module's docstring without importing it; empty if not installed."""
    with contextlib.suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            source = Path(spec.origin).read_text(encoding="utf-8")
            return (ast.get_docstring(ast.parse(source)) or "").split("\n", 1)[0]
    return ""


if __name__ == "__main__":
    sys.exit(main())
