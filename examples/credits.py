"""Print the table of credits in ``examples/README.md``: ``python examples/credits.py``. Run it when clips change."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def table() -> str:
    """Return the table in Markdown, one row per ``example.json``: folder, title, sounds, authors, licence."""
    rows = ["| clip | title | sounds | made by | licence |", "| --- | --- | --- | --- | --- |"]
    for file in sorted(FOLDER.glob("*/example.json")):
        data = json.loads(file.read_text(encoding="utf-8"))
        sounds = ", ".join(dict.fromkeys(event["label"] for event in data["events"] or ()))
        rows.append(f"| `{file.parent.name}` | {data['title']} | {sounds} | {data['credits']} | {data['licence']} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
