"""Kinds of figure of the exhibits: lines with bands, panels of lines, dots, forest plots.

A figure is Plotly's JSON as plain data, ``{"data": [..], "layout": {..}}``. Building it this way takes a hundredth of
the time of Plotly's validated objects (see ``Exhibit.figure``). Every series is distinguished by hue, symbol and dash
together. Points carry their selection (``exhibit.point``), so that a click can fetch their traces. Rows are plain
dicts; a value or bound may be None or NaN.

Common arguments: ``tip`` makes the hover text of a row; ``places`` are places in the colour order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

import pandas as pd

from analysis.exhibit import label
from analysis.style import DASHES, INK, SOFT, SYMBOLS, axis, colour_of, layout, with_alpha

_WRAPPED = 8  # labels in lines below an axis; more of them stand at an angle, in one line each
Row = Mapping[str, Any]
Tip = Callable[[Row], str]
Series = Sequence[tuple[str, Sequence[Row]]]
Drawing = dict[str, Any]


class Axes(NamedTuple):
    """The columns of the axes and their titles; ``percent`` if the values are shares, ``share_x`` if x is one too."""

    x: str
    y: str
    x_title: str
    y_title: str
    percent: bool = False
    share_x: bool = False

    def layouts(self) -> dict[str, Any]:
        """Return the settings of both axes."""
        return {"xaxis": axis(self.x_title, percent=self.share_x), "yaxis": axis(self.y_title, percent=self.percent)}


def lines(
    series: Series,
    axes: Axes,
    *,
    tip: Tip,
    reference: float | None = None,
    reference_label: str = "",
    places: Sequence[int] | None = None,
) -> Drawing:
    """Draw lines with bands of their intervals.

    Args:
        series: Names and rows; a row has ``x``, ``y``, ``low``, ``high`` and, where it can be chosen, ``point``.
        reference: A horizontal line, such as the level of chance.
        reference_label: Its text.
        places: Place of each series in the colour order.

    Rows whose ``null`` is True are expectations of a null model. They are drawn as a thin dashed line without points,
    and all measured lines are then solid.
    """
    solid = any(_is_null_model(rows) for _, rows in series)
    data: list[dict[str, Any]] = []
    for number, (name, rows) in enumerate(series):
        data += _line(name, rows, axes, places[number] if places else number, tip, legend=True, solid=solid)
    figure_layout = layout(**axes.layouts())
    _add_reference_line(figure_layout, reference, reference_label)
    return {"data": data, "layout": figure_layout}


def panels(
    groups: Sequence[tuple[str, Series]],
    axes: Axes,
    *,
    tip: Tip,
    shared: bool = True,
    places: Sequence[int] | None = None,
    own_places: bool = False,
    hues: Sequence[int] | None = None,
) -> Drawing:
    """Draw one panel for each group, the same series in each.

    Args:
        groups: Titles of panels and their series, as in :func:`lines`.
        shared: All panels have one scale.
        places: Place of each series in the colour order.
        own_places: Each panel has its own series, coloured from the first colour on.
        hues: The one colour of each panel (the place of its arm); its series differ in symbol and dash.
    """
    # The gap between rows is fixed in pixels, so its share depends on the height.
    columns = min(2, len(groups))
    rows_of_panels = -(-len(groups) // columns)
    height = 90 + 280 * rows_of_panels
    gap_x, gap_y = 0.09, 76 / height
    width, panel_height = (1 - gap_x * (columns - 1)) / columns, (1 - gap_y * (rows_of_panels - 1)) / rows_of_panels
    data: list[Any] = []
    in_legend: set[str] = set()
    figure_layout = layout(height=height, margin={"l": 12, "r": 16, "t": 52, "b": 12})
    figure_layout["legend"] |= {"y": 1 + 26 / height}
    figure_layout["annotations"] = []
    figure_layout["meta"] = {"panels": len(groups)}  # narrow pages put them below each other
    for number, (title, series) in enumerate(groups):
        column, row = number % columns, number // columns
        left, top = column * (width + gap_x), 1 - row * (panel_height + gap_y)
        suffix = "" if number == 0 else str(number + 1)
        last_row = number + columns >= len(groups)
        x_title, y_title = axes.x_title if last_row else "", axes.y_title if column == 0 else ""
        across, up = {"domain": [left, left + width]}, {"domain": [top - panel_height, top]}
        figure_layout[f"xaxis{suffix}"] = axis(x_title, anchor=f"y{suffix}", **across)
        figure_layout[f"yaxis{suffix}"] = axis(y_title, percent=axes.percent, anchor=f"x{suffix}", **up)
        # Shared scales make the panels comparable.
        if number and shared:
            figure_layout[f"yaxis{suffix}"]["matches"] = "y"
            figure_layout[f"xaxis{suffix}"]["matches"] = "x"
        font = {"size": 13, "color": INK if hues is None else colour_of(hues[number])}
        corner = {"x": left, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        figure_layout["annotations"].append({"text": label(title), "showarrow": False, "font": font, **corner})
        # A series has one legend entry for all panels, taken from its first panel with rows.
        for order, (name, rows) in enumerate(series):
            first = bool(rows) and (own_places or name not in in_legend)  # Plotly leaves empty series out of its legend
            in_legend |= {name} if rows else set()
            place = places[order] if places else order
            hue = place if hues is None else hues[number]
            if first and hues is not None:  # the legend shows symbols and dashes in a neutral colour
                (key,) = _line(name, [row | {"band": False} for row in rows[:1]], axes, place, tip, legend=True)
                key |= {"x": [None], "y": [None], "customdata": [None], "hovertext": [""]}
                data.append(key | {"line": key["line"] | {"color": INK}, "marker": key["marker"] | {"color": INK}})
            for trace in _line(name, rows, axes, place, tip, legend=first and hues is None, hue=hue):
                data.append(trace | {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"})
    return {"data": data, "layout": figure_layout}


def dots(
    series: Series,
    axes: Axes,
    *,
    tip: Tip,
    joined: bool = False,
    places: Sequence[int] | None = None,
    hues: Sequence[int] | None = None,
    spread: bool = True,
    reference: float | None = None,
    reference_label: str = "",
) -> Drawing:
    """Draw points with 95 % intervals.

    Args:
        series: Names and rows, as in :func:`lines`.
        joined: Connect the points of a series (over numbers).
        places: Place of each series in the colour order.
        spread: Series stand side by side (over categories).
        hues: Place of the colour of each series, where it is not that of its symbol and dash.
    """
    x, y = axes.x, axes.y
    # Categories become positions 0, 1, .., around which the series are spread.
    numeric = all(isinstance(row[x], (int, float)) for _, rows in series for row in rows)
    positions: dict[Any, int] = {}
    for _, rows in series:
        for row in rows:
            positions.setdefault(row[x], len(positions))
    n_series, data = max(1, len(series)), []
    for number, (name, rows) in enumerate(series):
        place = places[number] if places else number
        colour = colour_of(hues[number] if hues else place)
        rows = [row for row in rows if pd.notna(row[y])]
        shift = (number - (n_series - 1) / 2) * min(0.16, 0.7 / n_series) if spread and not numeric else 0.0
        data.append(
            {
                **_points(rows, tip, place, colour, size=10),
                "x": [row[x] if numeric else positions[row[x]] + shift for row in rows],
                "y": [row[y] for row in rows],
                "name": label(name),
                "mode": "lines+markers" if joined else "markers",
                "line": {"color": colour, "width": 2, "dash": DASHES[place % len(DASHES)]},
                "error_y": _error_bars(rows, y, colour),
            }
        )
    figure_layout = layout(**axes.layouts(), showlegend=spread and n_series > 1)
    # Many category labels do not fit horizontally, so they are shortened and rotated.
    if not numeric:
        wrapped = (wrap(" ".join(str(name).split())[:80], 18)[:3] for name in positions)
        figure_layout["xaxis"] |= _categories(["<br>".join(map(label, lines_of_name)) for lines_of_name in wrapped])
        if len(positions) > _WRAPPED:
            figure_layout["xaxis"] |= {"ticktext": [label(name, 26) for name in positions], "tickangle": -60}
            figure_layout["height"] += 70
    _add_reference_line(figure_layout, reference, reference_label)
    return {"data": data, "layout": figure_layout}


def forest(
    rows: Sequence[Row],
    value: str,
    *,
    names: Callable[[Row], str],
    x_title: str,
    percent: bool,
    tip: Tip,
    zero: float | None = 0.0,
    places: Callable[[Row], int] = lambda row: 0,
    kinds: Callable[[Row], str] | None = None,
) -> Drawing:
    """Draw a forest plot: estimates below each other with their intervals, and a line where there is no difference.

    Args:
        zero: Where there is no difference; None draws no line.
        kinds: Returns the legend entry of a row's place.
    """
    known_rows = [row for row in rows if pd.notna(row[value])]
    height, data = len(known_rows), []
    legend_kinds: set[str] = set()
    for number, row in enumerate(known_rows):
        place = places(row)
        kind = kinds(row) if kinds else ""
        data.append(
            {
                **_points([row], tip, place, colour_of(place), size=11),
                "x": [row[value]],
                "y": [height - 1 - number],
                "mode": "markers",
                "error_x": _error_bars([row], value, colour_of(place)),
                "name": label(kind),
                "legendgroup": kind,
                "showlegend": bool(kind) and kind not in legend_kinds,
            }
        )
        legend_kinds.add(kind)
    figure_layout = layout(height=110 + 34 * max(2, height), xaxis=axis(x_title, percent=percent), yaxis=axis(""))
    figure_layout["xaxis"]["zeroline"] = False
    figure_layout["yaxis"] |= _categories([label(names(row)) for row in reversed(known_rows)])
    if zero is not None:
        figure_layout["shapes"] = [_dotted_line("x", zero)]
    return {"data": data, "layout": figure_layout}


def _line(
    name: str,
    rows: Sequence[Row],
    axes: Axes,
    place: int,
    tip: Tip,
    *,
    legend: bool,
    solid: bool = False,
    hue: int | None = None,
) -> list[dict[str, Any]]:
    x, y = axes.x, axes.y
    rows = [row for row in rows if pd.notna(row[y])]
    colour, group = colour_of(place if hue is None else hue), f"series {place}"
    faint = _is_null_model(rows)
    banded = [row for row in rows if pd.notna(row["low"]) and row.get("band", True)]
    traces: list[dict[str, Any]] = []
    # The band is a closed polygon: the upper bounds forwards, the lower bounds backwards.
    if len(banded) > 1:
        positions = [row[x] for row in banded]
        # The line comes after the band, so that it is drawn on top.
        traces.append(
            {
                "type": "scatter",
                "x": positions + positions[::-1],
                "y": [row["high"] for row in banded] + [row["low"] for row in reversed(banded)],
                "fill": "toself",
                "fillcolor": with_alpha(colour, 0.16),
                "line": {"width": 0, "color": colour},
                "mode": "lines",
                "hoverinfo": "skip",
                "showlegend": False,
                "legendgroup": group,
            }
        )
    traces.append(
        {
            **_points(rows, tip, place, colour, size=9),
            "x": [row[x] for row in rows],
            "y": [row[y] for row in rows],
            "name": label(name),
            "legendgroup": group,
            "showlegend": legend,
            "mode": "lines" if faint or len(rows) > 40 else "lines+markers",
            "line": {
                "color": colour,
                "width": 1.5 if faint else 2.5 if solid else 2,
                "dash": "dash" if faint else "solid" if solid else DASHES[place % len(DASHES)],
            },
        }
    )
    return traces


def _points(rows: Sequence[Row], tip: Tip, place: int, colour: str, size: int) -> dict[str, Any]:
    """Return the parts of a trace that all figures share: markers, hover texts and selections."""
    return {
        "type": "scatter",
        "marker": {"symbol": SYMBOLS[place % len(SYMBOLS)], "size": size, "color": colour},
        "hovertext": [tip(row) for row in rows],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "customdata": [row.get("point") for row in rows],
    }


def _categories(texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings of an axis of categories at 0, 1, .."""
    ticks = {"tickmode": "array", "tickvals": list(range(len(texts))), "ticktext": list(texts)}
    return ticks | {"range": [-0.6, len(texts) - 0.4], "showgrid": False, "zeroline": False}


def _is_null_model(rows: Sequence[Row]) -> bool:
    """Return whether the rows are expectations of a null model."""
    return any(row.get("null") is True for row in rows)


def _error_bars(rows: Sequence[Row], y: str, colour: str) -> dict[str, Any]:
    def distance(row: Row, name: str) -> float:
        return abs(row[name] - row[y]) if pd.notna(row.get(name)) else 0.0

    return {
        "type": "data",
        "symmetric": False,
        "array": [distance(row, "high") for row in rows],
        "arrayminus": [distance(row, "low") for row in rows],
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }


def _add_reference_line(figure_layout: Drawing, value: float | None, text: str) -> None:
    """Draw a dotted line over the figure at ``value`` of the y axis, named at its right end."""
    if value is None:
        return
    figure_layout["shapes"] = [_dotted_line("y", value)]
    if text:
        place = {"x": 1, "y": value, "xref": "paper", "yref": "y", "xanchor": "right", "yanchor": "bottom"}
        font = {"size": 11, "color": SOFT}
        figure_layout["annotations"] = [{"text": label(text), "showarrow": False, "font": font, **place}]


def _dotted_line(along: str, value: float) -> dict[str, Any]:
    """Return a dotted line over the whole figure at one value of an axis."""
    other = "x" if along == "y" else "y"
    return {
        "type": "line",
        f"{along}ref": along,
        f"{along}0": value,
        f"{along}1": value,
        f"{other}ref": "paper",
        f"{other}0": 0,
        f"{other}1": 1,
        "line": {"color": SOFT, "width": 1, "dash": "dot"},
    }
