"""The pages of the documentation that a reader types from, and the commands of each."""

from __future__ import annotations

import re
from pathlib import Path

from tests.readme.blocks import Block, blocks, commands
from tests.support.users import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = (DOCS / "index.md", DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md")))

_MARK = re.compile(r"<!-- not run: (.+) -->")
_RUN = ("sh", "python")

START = (
    f'export PATH="{REPOSITORY}/.venv/bin:$PATH"',
    "mkdir -m 700 ~/daemon",
    "ktaskd --own-user --runtime-dir ~/daemon 2> ~/daemon.log &",
    "export KTASKD_SOCKET=~/daemon",
)
"""Typed before the first page: a daemon of the reader, which ends with the shell."""


def reason_of(page: Path, block: Block) -> str:
    """The reason that a page has for a block that is not run; "" = it is run."""
    # The mark is in the line before the fence, which is the line before the first line of the block.
    found = _MARK.fullmatch(page.read_text().splitlines()[max(block.line - 3, 0)])
    return found[1] if found else ""


def typed(page: Path) -> list[str]:
    """The commands of a page, in a directory of its own."""
    found = [f"mkdir ~/{page.stem}; cd ~/{page.stem}; export KTASKD_SOCKET=~/daemon"]
    for block in blocks(page.read_text()):
        if block.language not in _RUN or reason_of(page, block):
            continue
        if block.language == "sh":
            found += commands(block.text)
        else:
            found += [
                f"cat > program.py <<'END_OF_PROGRAM'\n{block.text}END_OF_PROGRAM",
                "python3 program.py",
            ]
    return found


def typed_programs(directory: Path) -> list[Path]:
    """The Python blocks of the pages as files; each is a module with a name of its own."""
    files: list[Path] = []
    for page in PAGES:
        for i, block in enumerate(one for one in blocks(page.read_text()) if one.language == "python"):
            files.append(directory / f"{page.stem}{i}.py")
            files[-1].write_text(block.text)
    return files
