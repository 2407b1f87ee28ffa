"""Numbers as text for captions, formatted from the same values that the figures draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from analysis.contrasts import roles, versus
from analysis.load import RunTable
from analysis.metrics import Metric


def _is_finite(x: Any) -> bool:
    return x is not None and isinstance(x, (int, float)) and isfinite(x)


def value(metric: Metric, x: Any) -> str:
    """Return a value of a metric, "63.4 %" or "128.0"; None and NaN are "unknown"."""
    if not _is_finite(x):
        return "unknown"
    return f"{100 * x:.1f} %" if metric.percent else number(x)


def number(x: Any) -> str:
    """Return a plain number, with the two or three digits that count.

    >>> number(1234.5), number(12.345), number(0.0123), number(None)
    ('1,234', '12.3', '0.012', 'unknown')
    """
    if not _is_finite(x):
        return "unknown"
    magnitude = abs(x)
    if magnitude >= 100 or x == int(x):
        return f"{x:,.0f}"
    return f"{x:.1f}" if magnitude >= 10 else f"{x:.2f}" if magnitude >= 0.095 else f"{x:.2g}"


def span(metric: Metric | None, low: Any, high: Any) -> str:
    """Return an interval in brackets, in per cent for a share; nothing where a bound is missing."""
    if not _is_finite(low) or not _is_finite(high):
        return ""
    if metric is not None and metric.percent:
        return f" (95 %: {100 * low:.1f} to {100 * high:.1f} %)"
    return f" (95 %: {number(low)} to {number(high)})"


def estimate(metric: Metric, row: Mapping[str, Any]) -> str:
    """Return a value with its interval, where there is one."""
    return f"{value(metric, row['value'])}{span(metric, row['low'], row['high'])}"


def difference(metric: Metric, x: Any, low: Any = None, high: Any = None) -> str:
    """Return a difference with its sign: "+3.2 points (95 %: -0.4 to +6.8)"."""
    if not _is_finite(x):
        return "unknown"
    scale, unit = (100, " points") if metric.percent else (1, "")
    digits = 1 if metric.percent else 2
    text = f"{scale * x:+.{digits}f}{unit}"
    if _is_finite(low) and _is_finite(high):
        text += f" (95 %: {scale * low:+.{digits}f} to {scale * high:+.{digits}f})"
    return text


def p_value(p: Any) -> str:
    """Return a p value, never as zero."""
    if not _is_finite(p):
        return "no test"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def paired_p(row: Mapping[str, Any]) -> str:
    """Return the paired test of a difference: McNemar's where each item has one answer, else the bootstrap's.

    >>> paired_p({"p_mcnemar": 0.02, "p_bootstrap": 0.03}), paired_p({"p_mcnemar": None, "p_bootstrap": 0.03})
    ('McNemar p = 0.020', 'paired bootstrap p = 0.030')
    """
    if _is_finite(exact := row.get("p_mcnemar")):
        return f"McNemar {p_value(exact)}"
    return f"paired bootstrap {p_value(row['p_bootstrap'])}"


def against_base(metric: Metric, row: Mapping[str, Any], prefix: str = ", ", escape: Callable[[str], str] = str) -> str:
    """Return the paired difference of a row (``difference_columns``) as a clause; "" for the base itself."""
    if not _is_finite(row["difference"]):
        return ""
    delta = difference(metric, row["difference"], row["difference_low"], row["difference_high"])
    return f"{prefix}{delta} against {escape(row['minus'])}, {paired_p(row)}"


def count(x: Any) -> str:
    """Return a whole number with its thousands apart."""
    return f"{int(x):,}" if _is_finite(x) else "0"


def plural(n: int, singular: str, plural_noun: str | None = None) -> str:
    """Return a number with its noun.

    >>> plural(1, "item"), plural(2, "item")
    ('1 item', '2 items')
    """
    return f"{n:,} {singular if n == 1 else plural_noun or singular + 's'}"


def size_of(row: Mapping[str, Any]) -> str:
    """Return the sample size of a number: its items, and its clips if these are fewer.

    >>> size_of({"items": 100, "clips": 50}), size_of({"items": 8, "clips": 8})
    ('100 items of 50 clips', '8 items')
    """
    items, clips = int(row["items"]), int(row.get("clips") or row["items"])
    return plural(items, "item") + (f" of {plural(clips, 'clip')}" if clips != items else "")


def caption(sentences: list[str], most: int = 4) -> str:
    """Join the first sentences as a caption, the most important first, with the number of the omitted ones."""
    n_omitted = len(sentences) - most
    return " ".join(sentences[:most]) + (f" The table has {n_omitted} more." if n_omitted > 0 else "")


def listed(parts: list[str]) -> str:
    """Join words to a list: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def finding(table: RunTable, metric: Metric) -> list[str]:
    """Return MPAR² minus the base, with its interval, as a sentence for each benchmark that has both arms."""
    sentences = []
    pairs = roles(table)
    for base, trained in pairs:
        row = versus(table, base.label, trained.label, metric)
        if row["difference"] is None:
            continue
        run_note = f" ({trained.run})" if len(pairs) > 1 and base.run not in base.label else ""
        sentences.append(
            f"{metric.label}, {trained.label} minus {base.label}{run_note}: "
            f"{difference(metric, row['difference'], row['low'], row['high'])}, {paired_p(row)}, on {size_of(row)}."
        )
    return sentences
