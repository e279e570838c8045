"""The code blocks of a Markdown document, and the commands in them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Block:
    """One code block.

    Args:
        line: number of its first line in the document, from 1.
        heading: the nearest one above it.
        language: the word after the fence; "sh" for an indented block.
    """

    line: int
    heading: str
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]


def blocks(document: str) -> list[Block]:
    """All code blocks, fenced ones and indented ones, in order."""
    found: list[Block] = []
    lines = document.splitlines()
    heading, i = "", 0
    while i < len(lines):
        begin = i
        if lines[i].startswith("```"):
            i = lines.index("```", i + 1)
            language = lines[begin][3:].strip()
            found.append(Block(begin + 2, heading, language, "\n".join(lines[begin + 1 : i]) + "\n"))
        elif lines[i].startswith(_INDENT) and (i == 0 or not lines[i - 1].strip()):
            i = _end_of_indented(lines, i)
            text = "\n".join(line[len(_INDENT) :] for line in lines[begin:i]) + "\n"
            found.append(Block(begin + 1, heading, "sh", text))
        elif lines[i].startswith("#"):
            heading = lines[i].lstrip("# ")
        i += 1
    return found


def _end_of_indented(lines: list[str], begin: int) -> int:
    """The line after an indented block, which may have empty lines in it."""
    end = begin
    while end < len(lines) and (lines[end].startswith(_INDENT) or not lines[end].strip()):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end


def commands(text: str) -> Iterator[str]:
    """The commands of a shell block: single lines, or several if one line alone is not complete."""
    command = ""
    for line in text.splitlines():
        command = f"{command}\n{line}" if command.strip() else line
        if command.strip() and _is_complete(command):
            yield command
            command = ""
    assert not command.strip(), f"never complete: {command}"


def _is_complete(command: str) -> bool:
    """Whether bash expects no more lines: no end of a quotation, a group or a here-document."""
    done = subprocess.run(["bash", "-n", "-c", command], check=False, capture_output=True)
    return done.returncode == 0 and not done.stderr


def without_comment(command: str) -> str:
    """The command without the comment that a block has about it."""
    return re.sub(r" +# .*$", "", command, flags=re.MULTILINE)
