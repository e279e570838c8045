"""Draws the picture of README: the CPU time that others keep next to each kind of background work.

    make bench-interference BENCH_ARGS="--rows 1 --json figures.json"
    python -m tests.bench.interference.kept figures.json docs/pictures/kept.svg

The lines are those of row 1 for rivals in another session.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.interference.notinway import AUTO, POOL, XARGS

_NAMES = {AUTO: "ktaskd", XARGS: "nice -n 19 xargs -P", POOL: "ProcessPoolExecutor"}
_OURS, _THEIRS, _TEXT = "#1a7f37", "#9a6700", "#57606a"


def kept(figures: Mapping[str, Any]) -> dict[str, float]:
    """The part of their time that others keep, by the name in the picture; the median of the rounds.

    Raises:
        KeyError: the figures have no row 1.
    """
    rows = {row["row"]: row for row in figures["rows"]}
    lines = {line["name"]: line for line in rows[1]["lines"]}
    return {
        name: statistics.median(lines[f"another session, CPU time beside {way}"]["values"])
        for way, name in _NAMES.items()
    }


def draw(shares: Mapping[str, float], path: Path) -> None:
    """Write the picture as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    # The same file for the same figures.
    mpl.rcParams["svg.hashsalt"] = "ktaskd"
    names, values = list(shares), [100 * share for share in shares.values()]
    figure, axes = pyplot.subplots(figsize=(8, 1.9))
    bars = axes.barh(names, values, color=[_OURS, _THEIRS, _THEIRS], height=0.6)
    axes.bar_label(bars, labels=[f"{value:.0f} %" for value in values], padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, 110)
    axes.set_xticks([])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    title = "CPU time that other programs keep while each of these has work for all CPUs"
    axes.set_title(title, fontsize=10, loc="left", color=_TEXT)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def main(argv: Sequence[str]) -> int:
    """Draw the figures of one file into another."""
    figures, picture = map(Path, argv)
    shares = kept(json.loads(figures.read_text()))
    draw(shares, picture)
    print(picture, *(f"{name}: {share:.3f}" for name, share in shares.items()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
