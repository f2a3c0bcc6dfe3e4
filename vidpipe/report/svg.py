"""Matplotlib figures as inline SVG that takes its colours from the page: light and dark, the same picture.

Colours are names here, and CSS variables there: a line drawn in `INK` comes out as `stroke: var(--ink)`.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# A matplotlib colour each, that nothing else has; in the page the variable of that name.
COLORS = {
    "ink": "#010a01",
    "muted": "#010a02",
    "line": "#010a03",
    "accent": "#010a04",
    "second": "#010a05",
    "good": "#010a06",
    "bad": "#010a07",
    "surface": "#010a08",
}
INK, MUTED, LINE, ACCENT, SECOND, GOOD, BAD, SURFACE = COLORS.values()
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label may hold a dollar sign
    "font.size": 12,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "legend.handlelength": 1.4,
}
CHART_PX = (380, 270)


@dataclass(frozen=True)
class Chart:
    """A picture with its words."""

    name: str
    title: str
    svg: Markup
    caption: str
    width_px: int
    height_px: int


@contextmanager
def axes(size_px: tuple[int, int] = CHART_PX) -> Iterator[Axes]:
    """Axes of a new figure, a point a pixel."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(size_px[0] / 72, size_px[1] / 72), dpi=72, layout="constrained")
        ax = figure.add_subplot()
        ax.grid(True)
        yield ax


def chart(name: str, title: str, ax: Axes, description: str, caption: str = "") -> Chart:
    """Finish a chart; `description` is what a reader who cannot see it is told."""
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    width, height = (round(side * 72) for side in figure.get_size_inches())
    buffer = io.StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # letters that matplotlib's font lacks are the browser's business
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return Chart(name, title, _inline(buffer.getvalue(), name, description), caption, width, height)


def legend(ax: Axes) -> None:
    """Names of what is drawn, above the axes: never over the data."""
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, columnspacing=1.2, borderaxespad=0)


def shortened(text: str, length: int = 24) -> str:
    """For an axis: printable, and no longer than that."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _inline(svg: str, name: str, description: str) -> Markup:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for color, code in COLORS.items():
        svg = svg.replace(code, f"var(--{color})")
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # it would style the whole page
    svg = re.sub(r"font-family:[^;\"]*;?", "", svg)  # the page's own
    # Several pictures share the page: each has its own names.
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]*)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    opening = Markup('<svg role="img" aria-label="{}" {} xmlns:xlink="http://www.w3.org/1999/xlink">')
    inside = svg[svg.index(">", svg.index("<svg")) + 1 :]
    return opening.format(escape(description), Markup(box.group())) + Markup(inside)
