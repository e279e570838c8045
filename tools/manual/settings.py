"""The configuration file as sections, keys and their explanations, read from its comments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[2] / "deploy" / "ktaskd.toml"


@dataclass(frozen=True, slots=True)
class Group:
    """Keys that one comment explains.

    Args:
        values: pairs of a key and its default as written.
    """

    text: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the file."""

    name: str
    text: str
    groups: tuple[Group, ...]


def read(text: str) -> tuple[str, list[Section]]:
    """The introduction of the file, and its sections."""
    intro, _, rest = text.partition("\n\n")
    found: list[Section] = []
    comment: list[str] = []
    values: list[tuple[str, str]] = []
    for line in [*rest.splitlines(), ""]:
        if values and (line.startswith("#") or not line):
            found[-1] = _with(found[-1], Group(_flat(comment), tuple(values)))
            comment, values = [], []
        if line.startswith("#"):
            comment.append(line)
        elif line.startswith("["):
            found.append(Section(line.strip("[]"), _flat(comment), ()))
            comment = []
        elif line:
            key, _, value = line.partition(" = ")
            values.append((key, value))
    return _flat(intro.splitlines()), found


def _with(section: Section, group: Group) -> Section:
    return Section(section.name, section.text, (*section.groups, group))


def _flat(lines: list[str]) -> str:
    return " ".join(line.lstrip("# ").rstrip() for line in lines).strip()
