"""How a reader uses each block of README and of the pages that go on from it, or why a test cannot run it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.readme.blocks import Block, blocks, commands
from tests.support.users import REPOSITORY

README = REPOSITORY / "README.md"

PAGES = (README, *(REPOSITORY / "docs" / f"{name}.md" for name in ("shell", "python", "own-functions")))
"""In the order in which one reader types them, in one shell."""

LEFT_OUT = {
    "make demo": "`make test` runs this; tests/tools/test_demo.py runs the demo",
    "make deb": "installs a package and makes a user; tests/vm does both in a virtual machine",
    "mkdir lines": "installs into the environment of the package; tests/own/test_readme.py uses a copy",
}
"""By the first line of a block: why it is not run here, and which test covers it."""

NATIVE = "cat > invert.c"
"""The block for an administrator, who writes below /etc and restarts the daemon."""

NATIVE_DIR = "/etc/ktaskd/functions.d"
OWN_DIR = "$HOME/functions.d"
"""NATIVE_DIR in these tests: the directory that the configuration of the started daemon names."""

RESTART = [
    f'mkdir -p "{OWN_DIR}"',
    f'printf \'[functions]\\ndir = "%s"\\n\' "{OWN_DIR}" > ~/ktaskd.toml',
    "kill %1; wait %1",
    "ktaskd --own-user --runtime-dir ~/ktaskd --config ~/ktaskd.toml 2>> ktaskd.log &",
]
"""Restarts the daemon of the session, which is the shell's only job."""


@dataclass(frozen=True, slots=True)
class Step:
    """The commands that are typed for one block.

    Args:
        commands: empty if the block is left out.
        note: for the transcript: the difference from README, or why the block is left out.
    """

    block: Block
    commands: tuple[str, ...]
    note: str = ""


def all_steps() -> list[Step]:
    """The steps of all pages, in their order."""
    return steps(*(page.read_text() for page in PAGES))


def steps(*documents: str) -> list[Step]:
    """One for each block of the documents, in their order."""
    names = (f"program{i}.py" for i in count(1))
    return [_step(block, names) for document in documents for block in blocks(document)]


def _step(block: Block, names: Iterator[str]) -> Step:
    reason = next((why for begin, why in LEFT_OUT.items() if block.first_line.startswith(begin)), "")
    if reason:
        return Step(block, (), f"Left out: {reason}.")
    if block.language == "python":
        name = next(names)
        made = f"cat > {name} <<'END_OF_PROGRAM'\n{block.text}END_OF_PROGRAM"
        return Step(block, (made, f"python3 {name}"))
    if block.first_line.startswith(NATIVE):
        return _native(block)
    return Step(block, tuple(commands(block.text)))


def _native(block: Block) -> Step:
    *typed, run = commands(block.text.replace(NATIVE_DIR, OWN_DIR))
    note = f"With {OWN_DIR} in the place of {NATIVE_DIR}. The daemon is started again before the last line."
    header = f"export CPATH={REPOSITORY / 'deploy'}"
    return Step(block, (RESTART[0], header, *typed, *RESTART[1:], run), note)


def programs(directory: Path) -> list[Path]:
    """The Python blocks of all pages as files."""
    found = (block for page in PAGES for block in blocks(page.read_text()))
    texts = [block.text for block in found if block.language == "python"]
    files = [directory / f"program{i}.py" for i, _ in enumerate(texts, 1)]
    for path, text in zip(files, texts, strict=True):
        path.write_text(text)
    return files
