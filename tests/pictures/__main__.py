"""Writes each picture as SVG, and with --png DIRECTORY also as PNG, by a headless Chromium."""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

from ktask.cli.bar import bar
from ktask.cli.top.model import Key, Page, State, reduce
from ktask.cli.top.screen import lines_of
from ktask.results import JobState
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.client.cli.top import scenes

_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
PLACE = Path(__file__).parents[2] / "docs" / "pictures"


def views() -> Iterator[tuple[str, str, State, bool]]:
    """Name, title, state, and whether it has colours."""
    yield "top-80", "ktask top, 80 columns", scenes.shown(scenes.busy, 80, 24), True
    yield "top-200", "ktask top, 200 columns", scenes.shown(scenes.busy, 200, 24), True
    yield "top-battery", "ktask top on battery", scenes.shown(scenes.on_battery, 100, 20), True
    yield "top-paused", "ktask top, mode paused", scenes.shown(scenes.paused, 80, 18), True
    yield "top-plain", "NO_COLOR=1 ktask top", scenes.shown(scenes.busy, 100, 24), False
    yield "top-large", "ktask top, 8 nodes of 256 CPUs", scenes.shown(scenes.large, 120, 32), True
    helped, _ = reduce(scenes.shown(scenes.busy, 100, 32), Key("h"))
    assert helped.page is Page.HELP
    yield "top-help", "ktask top: help", helped, True


def bars() -> list[Text]:
    """The progress bar of one job at several moments, each as it replaces the one before."""
    job = scenes.job
    name, function = "monthly.tar", "file.sha256"
    moments = [
        (job(1, function, name, JobState.QUEUED, reasons=(scenes.WAITS,)), 0.5),
        (job(1, function, name, done=0.12, leads=1, helpers=3), 4.0),
        (job(1, function, name, done=0.55, leads=1, helpers=7), 11.0),
        (job(1, function, name, done=0.97, leads=1, helpers=2), 18.2),
        (job(1, function, name, JobState.COMBINING, done=1.0), 18.9),
    ]
    lines = [Text("$ ktask run file.sha256 data=monthly.tar"), Text("")]
    return lines + [Text(bar(one, elapsed_s, 79)) for one, elapsed_s in moments]


def svg(lines: list[Text], columns: int, title: str, *, colours: bool = True) -> str:
    console = Console(
        file=StringIO(), record=True, width=columns, force_terminal=True, color_system="truecolor",
        no_color=not colours, legacy_windows=False,
    )  # fmt: skip
    for line in lines:
        console.print(line if colours else without_colours(line), soft_wrap=True)
    # The fonts would be fetched from the network by every reader.
    return _FONTS.sub("", console.export_svg(title=title, unique_id="ktask"))


def without_colours(line: Text) -> Text:
    """A line as a terminal without colours shows it: bold, dim, underlined and reversed signs."""
    plain = Text(line.plain, style=_style(line.style).without_color)
    for span in line.spans:
        plain.stylize(_style(span.style).without_color, span.start, span.end)
    return plain


def _style(style: str | Style) -> Style:
    return Style.parse(style) if isinstance(style, str) else style


def pictures() -> dict[str, str]:
    """The SVG of each picture by its name."""
    found = {
        name: svg(lines_of(state), state.size.columns, title, colours=colours)
        for name, title, state, colours in views()
    }
    return {**found, "bar": svg(bars(), 80, "the progress bar")}


def _write(directory: Path, make: Callable[[], dict[str, str]] = pictures) -> None:
    directory.mkdir(exist_ok=True)
    for name, text in make().items():
        (directory / f"{name}.svg").write_text(text)


def _as_png(directory: Path) -> None:
    for path in sorted(PLACE.glob("*.svg")):
        shot = directory / f"{path.stem}.png"
        command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={shot}"]
        subprocess.run([*command, "--window-size=1700,800", path.as_uri()], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--png", type=Path, metavar="DIRECTORY")
    options = parser.parse_args()
    _write(PLACE)
    if options.png:
        _as_png(options.png)


if __name__ == "__main__":
    main()
