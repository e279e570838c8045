"""README as a reader types it, with the output, as a page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.readme import session
from tests.readme.plan import Step, all_steps
from tests.readme.session import Done
from tests.support.users import REPOSITORY, reachable_directory

PAGE = REPOSITORY / "docs" / "transcript.md"

READER = 60031
"""A uid without rights, for the reader who is not root."""

MOST_LINES, WIDEST = 14, 110
"""Limit for the output of one command; the rest is left out of the page."""

_HEAD = """# README and the pages that go on from it, as typed

Made by `python -m tests.readme`, as root: every code block of README.md, docs/shell.md, docs/python.md and
docs/own-functions.md in one shell, which begins with an empty home directory, as root and as a user without
rights. `make test` does the same, and fails if a command ends with a status other than 0. Parts that differ
from run to run are written as "…".
"""

_VOLATILE = (
    (r"\b[0-9a-f]{32}\b", "…"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", "…"),
    (r"\b\d+(\.\d+)? (s|min|MiB|GiB|KiB)\b", r"… \2"),
    (r"\b\d+\.\d+ ", "… "),
    (r"(pid:? +)\d+", r"\1…"),
    (r'("(pid|lead_seconds|helper_seconds|chunk|threads|sequence|uid)": )"?[\d.]+"?', r"\1…"),
    (r'("chunks_\w+|"helpers_\w+)": "?\d+"?', r'\1": …'),
)


@dataclass(frozen=True, slots=True)
class Chapter:
    """One block, and the outcome of each of its commands."""

    step: Step
    done: tuple[Done, ...]


def play(uid: int) -> list[Chapter]:
    """Type all blocks of all pages in one shell of `uid`, from an empty home directory."""
    todo = all_steps()
    with reachable_directory() as place:
        home = place / "home"
        home.mkdir(mode=0o755)
        os.chown(home, uid, uid)
        typed = [command for step in todo for command in step.commands]
        answers = session.run(typed, REPOSITORY, home, uid)
        done = iter([replace(one, output=steady(one.output, home)) for one in answers])
    return [Chapter(step, tuple(next(done) for _ in step.commands)) for step in todo]


def failures(chapters: list[Chapter]) -> list[str]:
    """The commands that did not end as a reader expects, a text each."""
    return [
        f"{chapter.step.block.heading}: {one.command}\nstatus {one.status}: {one.output}"
        for chapter in chapters
        for one in chapter.done
        if one.status != 0
    ]


def page(by_reader: dict[str, list[Chapter]]) -> str:
    """The whole page."""
    parts = [_HEAD]
    for reader, chapters in by_reader.items():
        parts.append(f"\n## As {reader}\n")
        parts += [text for chapter in chapters for text in _chapter(chapter)]
    return "".join(parts)


def _chapter(chapter: Chapter) -> Iterator[str]:
    block = chapter.step.block
    yield f"\n### {block.heading}: `{block.first_line.partition('  #')[0].strip()}`\n"
    if chapter.step.note:
        yield f"\n{chapter.step.note}\n"
    if chapter.done:
        lines = [line for one in chapter.done for line in (*_typed(one.command), *_shown(one.output))]
        yield "\n" + "".join(f"    {line}".rstrip() + "\n" for line in lines)


def _typed(command: str) -> list[str]:
    first, *others = steady(command).strip().splitlines()
    return [f"$ {first}", *(f"> {line}" for line in others)]


def _shown(output: str) -> list[str]:
    lines = [line if len(line) <= WIDEST else f"{line[: WIDEST - 1]}…" for line in output.splitlines()]
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[:MOST_LINES], f"[{len(lines) - MOST_LINES} more lines]"]


def steady(output: str, home: Path = Path("/home/me")) -> str:
    """The text without the parts that differ from run to run and between checkouts."""
    output = output.replace(str(home), "/home/me").replace(str(REPOSITORY), "/home/me/src/ktaskd")
    for pattern, instead in _VOLATILE:
        output = re.sub(pattern, instead, output)
    return output
