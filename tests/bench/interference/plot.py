"""The picture: a panel for each row and unit, every round a dot, goals as ticks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.interference.beside import REPOSITORY
from tests.bench.interference.line import MISSED, PASS, Line
from tests.bench.interference.report import Section

_WIDTH_INCHES = 11.0
_LINE_INCHES = 0.24
_PANEL_INCHES = 0.95
"""Title, axis and the gap above."""
_NAME_MAX = 62
_COLOURS: Mapping[str, str] = {PASS: "#1a7f37", MISSED: "#cf222e", "": "#57606a"}
_WIDE = 30.0
"""An axis is logarithmic if the largest value is at least this many times the smallest."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines that share an axis."""

    title: str
    unit: str
    lines: Sequence[Line]


def panels(sections: Iterable[Section]) -> list[Panel]:
    """The panels, in order: lines of one row and unit together.

    Lines that were not measured are in the first panel of their row. A unit without any
    goal is left to the table, unless the row has no other.
    """
    found: list[Panel] = []
    for section in sections:
        units = _units(section.lines)
        for unit in units:
            lines = [line for line in section.lines if (line.unit if line.values else units[0]) == unit]
            named = f" ({unit})" if len(units) > 1 and unit else ""
            found.append(Panel(f"{section.number}. {section.title}{named}", unit, lines))
    return [panel for panel in found if panel.lines]


def _units(lines: Sequence[Line]) -> list[str]:
    measured = [line for line in lines if line.values]
    judged = [line.unit for line in measured if line.goal or not line.unit]
    return list(dict.fromkeys(judged or [line.unit for line in measured])) or [""]


def draw(sections: Iterable[Section], path: Path, about: str) -> None:
    """Write the picture as PNG.

    Args:
        about: text at the top, such as the machine and the effort.
    """
    # matplotlib keeps its cache of fonts in this directory; its message about that is left out.
    os.environ.setdefault("MPLCONFIGDIR", str(REPOSITORY / ".cache" / "matplotlib"))
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    # Without a display, and loaded only if a picture is requested.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = panels(sections)
    heights = [len(panel.lines) * _LINE_INCHES + _PANEL_INCHES for panel in shown]
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights, 0.6)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(about, fontsize=9)
    axes = figure.subplots(len(shown), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for panel, (axis,) in zip(shown, axes, strict=True):
        _panel(axis, panel)
    figure.savefig(path, dpi=110)


def _panel(axis: Any, panel: Panel) -> None:
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    axis.set_xlabel(panel.unit or "ratio", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.set_yticks(range(len(panel.lines)), [_short(line.name) for line in panel.lines])
    axis.set_ylim(len(panel.lines) - 0.4, -0.6)
    axis.grid(axis="x", color="#d0d7de", linewidth=0.6)
    axis.set_axisbelow(True)
    if _is_wide(panel.lines):
        axis.set_xscale("log")
    for i, line in enumerate(panel.lines):
        _line(axis, i, line)
    axis.margins(x=0.05)


def _line(axis: Any, at: int, line: Line) -> None:
    colour = _COLOURS[line.verdict]
    if line.goal:
        axis.plot([line.goal.bound] * 2, [at - 0.4, at + 0.4], color="#0969da", linewidth=2)
    spread = line.spread
    if spread is None:
        place = {"xy": (0.01, at), "xycoords": ("axes fraction", "data")}
        axis.annotate("not measured", va="center", fontsize=8, color=colour, **place)
        return
    axis.plot([spread.least, spread.most], [at, at], color=colour, linewidth=1.2)
    axis.plot(line.values, [at] * len(line.values), ".", color=colour, markersize=4, alpha=0.5)
    axis.plot([spread.median], [at], "o" if not line.bound else ">", color=colour, markersize=6)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_MAX else f"{name[: _NAME_MAX - 1]}…"


def _is_wide(lines: Iterable[Line]) -> bool:
    values = [value for line in lines for value in line.values]
    return bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE
