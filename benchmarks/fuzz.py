"""Coverage-guided fuzzing of the readers of untrusted text, until it is stopped.

    pip install atheris && python -m benchmarks.fuzz [trace|answer|run|reply] [-max_total_time=60] [libFuzzer options]

Atheris is needed only here and is no dependency. A crash writes its input to ``crash-*``. The invariants are those
of ``tests/test_safe_properties.py`` and ``tests/test_trace.py``: a value or the reader's own error, and no text lost.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable


def main() -> None:
    """Fuzz the reader named by the first argument, or all of them in turn."""
    import atheris

    # Coverage needs instrumentation, so the readers are imported inside.
    with atheris.instrument_imports(include=["mpar2", "json"]):
        from pydantic import BaseModel

        from mpar2.llm.base import Reply, Usage
        from mpar2.llm.errors import ReplyRejected
        from mpar2.llm.structured import parse
        from mpar2.question import match_choice, string_match
        from mpar2.runs import RunError, check_record
        from mpar2.runs.lines import read_lines
        from mpar2.trace import parse_trace

    class Shape(BaseModel):
        marks: list[float]
        note: str = ""

    def trace(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        result = parse_trace(text)
        assert "".join(text[part.outer.start : part.outer.stop] for part in result.top()) == text
        for part in result.parts:
            assert part.text == text[part.chars.start : part.chars.stop]

    def answer(data: bytes) -> None:
        text, *choices = data.decode("utf-8", "replace").split("\n")
        assert match_choice(text, choices) in {None, *choices}
        string_match(choices[0] if choices else "", text, choices)

    def run(data: bytes) -> None:
        with contextlib.suppress(RunError):
            for number, raw in read_lines(io.BytesIO(data + b"\n"), "items.jsonl", max_lines=20, max_line_bytes=5000):
                check_record(raw, f"line {number}")

    def reply(data: bytes) -> None:
        with contextlib.suppress(ReplyRejected):
            parse(Reply(data.decode("utf-8", "replace"), "judge", "judge", Usage(), "stop"), Shape)

    readers: dict[str, Callable[[bytes], None]] = {"trace": trace, "answer": answer, "run": run, "reply": reply}
    reader = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in readers else None

    # Without a reader's name, the first byte of the input chooses one.
    def fuzz(data: bytes) -> None:
        if reader is not None:
            readers[reader](data)
        elif data:
            list(readers.values())[data[0] % len(readers)](data[1:])

    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
