"""Colours and layout of all figures, with series distinguished by hue, symbol and dash, in light and dark themes.

Hues are based on Okabe and Ito (2008), which colour-blind readers can distinguish; each has a lighter twin for dark
pages. A figure is built in its light colours; the page's script replaces them by the dark colours of ``DARK``.
"""

from __future__ import annotations

from typing import Any

# light -> dark
_PAIRS = (
    ("#0072B2", "#56AEE8"),
    ("#D55E00", "#FF9150"),
    ("#00805E", "#3CC79A"),
    ("#B0568C", "#E29BC5"),
    ("#8A6A00", "#E6C34A"),
    ("#5B4FA0", "#B1A7EE"),
    ("#47525E", "#B4BFCC"),
    ("#8C2D04", "#F2B48A"),
)
PALETTE = tuple(light for light, _ in _PAIRS)
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
INK, SOFT, GRID, PAPER = "#1B2130", "#576071", "#DDE1E8", "#FFFFFF"
DARK = dict(_PAIRS) | {INK: "#E8EBF1", SOFT: "#A3ACBB", GRID: "#2E3542", PAPER: "#171B23"}
_FONT = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"


def colour_of(place: int) -> str:
    """Return the colour of the arm at that place."""
    return PALETTE[place % len(PALETTE)]


def with_alpha(colour: str, alpha: float) -> str:
    """Return a translucent colour whose prefix is the opaque colour, so that the dark theme replaces both."""
    return f"{colour}{round(255 * alpha):02X}"


def axis(title: str, *, percent: bool = False, **settings: Any) -> dict[str, Any]:
    """Return an axis in the style of all figures."""
    return {
        "title": {"text": title, "font": {"color": SOFT}, "standoff": 8},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zerolinecolor": GRID,
        "tickfont": {"color": SOFT},
        "automargin": True,
        "ticks": "",
        **({"tickformat": ".0%"} if percent else {}),
    } | settings


def layout(**settings: Any) -> dict[str, Any]:
    """Return the common layout of all figures, overridden by ``settings``."""
    return {
        "template": "none",
        "font": {"family": _FONT, "size": 13, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "margin": {"l": 12, "r": 16, "t": 18, "b": 12},
        "hoverlabel": {"font": {"family": _FONT, "size": 12}, "align": "left"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"color": INK}},
        "autosize": True,
        "height": 380,
    } | settings
