"""Report page: figures, readings, tables, manifests, and the command that reproduces each.

The page is self-contained (it includes Plotly's script once) and makes no requests: its content security policy allows
only its own scripts by hash, its styles, and pictures that it makes itself. Data of runs is embedded as JSON in a
script element of a type that no browser runs, with ``<``, ``>`` and ``&`` escaped, and as escaped text.

``data_folder`` gets every table as CSV, and as Parquet if pyarrow is installed.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from analysis.audio_need import read_audio_need
from analysis.bundle import bundle
from analysis.choice import Choice, apply_choice
from analysis.exhibit import Exhibit, to_csv
from analysis.exhibits import build_exhibits
from analysis.load import RunInfo, RunTable, load_runs
from analysis.paper import beside_ours, cells_exhibit, paper_cells, paper_exhibits, source
from analysis.style import DARK
from mpar2 import __version__
from mpar2.runs.lines import write_bytes

_VIEW = Path(__file__).resolve().parent / "view"


def write_report(
    sources: Sequence[str | Path],
    out: str | Path,
    choice: Choice | None = None,
    *,
    only: Iterable[str] | None = None,
    judge: str | None = None,
    data_folder: str | Path | None = None,
    paper: str | Path | None = None,
    audio_need: str | Path | None = None,
) -> list[Exhibit]:
    """Load the runs, and write the page (atomically) and the data.

    Args:
        sources: Run folders, zips or JSON lines.
        out: The page.
        choice: Arms, metric, bins and filters.
        only: Names of figures; None draws all.
        judge: Judge whose scores are used if a run has several.
        data_folder: Folder for the tables; None writes none.
        paper: The paper's arXiv source, whose tables are compared with the runs.
        audio_need: Published answers without the audio (``analysis.audio_need``).

    Returns:
        The exhibits of the page; the paper's cells last, if its source is given.

    Raises:
        AnalysisError: ``out`` is a folder, or there is nothing to draw.
        RunError: A source is no run, or is damaged.
    """
    out = Path(out)
    if out.is_dir():
        raise AnalysisError(f"{out} is a folder: name a file to write, such as report.html")
    cells = paper_cells(paper)
    choice, published = choice or Choice(), None if audio_need is None else read_audio_need(audio_need)
    table = load_runs(sources, judge=judge, audio_need=published)
    exhibits = build_exhibits(table, choice, only, [_without_folder(str(path)) for path in sources])
    cell_comparison = cells_exhibit(cells, table)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, report_html(table, choice, exhibits, cell_comparison).encode("utf-8", "replace"))
    exhibits += [cell_comparison] if paper is not None else []
    if data_folder is not None:
        write_data(exhibits, Path(data_folder))
    return exhibits


def write_data(exhibits: Iterable[Exhibit], folder: Path) -> None:
    """Write each exhibit's table as ``NAME.csv`` and, where pyarrow is installed, as ``NAME.parquet``."""
    folder.mkdir(parents=True, exist_ok=True)
    for exhibit in exhibits:
        if exhibit.table.empty:
            continue
        write_bytes(folder / f"{exhibit.name}.csv", to_csv(exhibit.table).encode("utf-8", "replace"))
        if find_spec("pyarrow") is not None:
            buffer = io.BytesIO()
            exhibit.table.to_parquet(buffer, index=False)
            write_bytes(folder / f"{exhibit.name}.parquet", buffer.getvalue())


def report_html(table: RunTable, choice: Choice, exhibits: Sequence[Exhibit], beside: Exhibit | None = None) -> str:
    """Return the page."""
    # Claims are compared on accuracy, whatever metric the figures show.
    comparison = beside_ours(apply_choice(table, choice), Choice(metric="accuracy"))
    paper = [
        *paper_exhibits(),
        Exhibit(
            "paper-beside-ours",
            "The paper's claims beside these runs",
            "Other models, other audio, another judge: the two columns answer the same question, not the same test.",
            None,
            comparison,
        ),
        *([beside] if beside else []),
    ]
    document = {
        "dark": DARK,
        "groups": {"figures": [e.to_json() for e in exhibits], "paper": [e.to_json() for e in paper]},
    }
    names = ", ".join(dict.fromkeys(run.name for run in table.runs))
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    links = "".join(f'<li><a href="#exhibit-{e.name}">{html.escape(e.title)}</a></li>' for e in exhibits)
    # Each script is allowed by its hash, so no other script can run on the page.
    page_script = f"{view_js()}\n{(_VIEW / 'report.js').read_text(encoding='utf-8')}"
    scripts = (plotly_js(), f"(() => {{\n{page_script}\n}})();")
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
    answers = f"{len(table.frame):,} answers of {len(table.arms)} arms"
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>MPAR² report: {html.escape(names[:200])}</title>",
            f"<style>{view_css()}{(_VIEW / 'report.css').read_text(encoding='utf-8')}</style></head><body>",
            '<main class="an-view an-auto"><h1>MPAR² report</h1>',
            f"<p>{answers}, from {html.escape(names)}. Made by mpar2 {html.escape(__version__)}, {created}.</p>",
            "<noscript><p>The figures and tables of this page are drawn by its own scripts: allow them.</p></noscript>",
            f'<nav aria-label="Figures"><ul>{links}<li><a href="#paper-title">What the paper reports</a></li>'
            '<li><a href="#runs-title">Runs and manifests</a></li></ul></nav>',
            '<h2>What was measured</h2><div class="an-view an-auto" id="figures"></div>',
            f'<h2 id="paper-title">What the paper reports</h2><p class="an-note">{html.escape(source())}. '
            "These numbers are not measurements of this project, and enter none of its figures.</p>",
            '<div class="an-view an-auto" id="paper"></div>',
            '<h2 id="runs-title">Runs and manifests</h2>',
            *(_run_block(run) for run in table.runs),
            "</main>",
            f'<script type="application/json" id="document">{_embedded(document)}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>",
        )
    )


def _run_block(run: RunInfo) -> str:
    manifest = shown_manifest(run.manifest)
    command = (manifest.get("environment") or {}).get("command") or []
    rerun = (
        f"<p>Again, from the shell: <code>{html.escape(shlex.join(map(str, command)))}</code></p>" if command else ""
    )
    judge = "<p>Not judged.</p>"
    if run.scores.judge:
        judge = (
            f"<p>Judged by {html.escape(str(run.scores.judge))}</p>"
            f"<details><summary>About the judge</summary><pre>{_pretty(dict(run.scores.about))}</pre></details>"
        )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in run.notes)
    return (
        f'<section class="an-card"><h3>{html.escape(run.name)}: {html.escape(run.benchmark)}</h3>'
        f"{f'<ul>{notes}</ul>' if notes else ''}{rerun}{judge}"
        f"<details><summary>Manifest</summary><pre>{_pretty(manifest)}</pre></details></section>"
    )


def shown_manifest(manifest: Any) -> dict[str, Any]:
    """Return the manifest without the machine's folders in its command."""
    copy = json.loads(json.dumps(manifest))
    environment = copy.get("environment")
    if isinstance(environment, dict) and isinstance(environment.get("command"), list):
        environment["command"] = [_without_folder(str(word)) for word in environment["command"]]
    return copy


def _without_folder(word: str) -> str:
    flag, equals, value = word.partition("=")
    if equals and flag.startswith("--"):
        return f"{flag}={_without_folder(value)}"
    absolute = word.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", word)
    return re.split(r"[\\/]", word.rstrip("\\/"))[-1] if absolute else word


@cache
def plotly_js() -> str:
    """Return Plotly's script, as its Python package ships it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


@cache
def view_js() -> str:
    """Return the script that shows exhibits; it defines ``mountExhibits``."""
    return bundle(_VIEW / "exhibits.js")


@cache
def view_css() -> str:
    """Return the styles of exhibits."""
    return (_VIEW / "exhibits.css").read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _embedded(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _pretty(value: Any) -> str:
    return html.escape(json.dumps(value, indent=2, ensure_ascii=False))
