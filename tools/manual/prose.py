"""The text of a help as paragraphs, which the man pages and the pages of reference write in their forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADING = re.compile(r"[a-z][a-z ,]*:|exit status: .*|verbs, .*:")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a help text.

    Args:
        heading: such as "examples"; "" = none.
        literal: whether `text` keeps its lines, as examples and tables do.
    """

    heading: str
    text: str
    literal: bool


def parts(epilog: str) -> Iterator[Part]:
    """The parts of an epilog, in their order."""
    for paragraph in re.split(r"\n\s*\n", epilog.strip()):
        yield from _paragraph(paragraph.splitlines())


def _paragraph(lines: list[str]) -> Iterator[Part]:
    if not lines:
        return
    heading = ""
    first = lines[0]
    if _HEADING.fullmatch(first):
        heading, _, rest = first.partition(":")
        lines = [rest.strip(), *lines[1:]] if rest.strip() else lines[1:]
    if lines and lines[0].startswith("  "):
        yield Part(heading, "\n".join(line.removeprefix("  ") for line in lines), literal=True)
    else:
        yield Part(heading, " ".join(line.strip() for line in lines), literal=False)
