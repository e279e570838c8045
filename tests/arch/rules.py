"""The index from rule to test: docs/rules.md, made from the tests themselves.

Rules are rows of tables, "| I3 | A worker ... |" in ARCHITECTURE.md and "| S1 | Imports ... |" in
CONTRIBUTING.md. A test that holds one has in its docstring a line "Guards: I3" (or "Guards: I3, I6"); in the
docstring of a module it speaks for all tests of the module. `python -m tests.arch.rules` writes the index.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.arch.tree import REPOSITORY, Source, sources, within

INDEX = REPOSITORY / "docs" / "rules.md"
DOCUMENTS = (REPOSITORY / "ARCHITECTURE.md", REPOSITORY / "CONTRIBUTING.md")

_RULE = re.compile(r"^\| ([IS]\d+) \| (.+?) \|(?: .*\|)?$", re.MULTILINE)
_GUARDS = re.compile(r"^\s*Guards: (.+)$", re.MULTILINE)

HEAD = """# Rules and the tests that hold them

Made by `python -m tests.arch.rules` from the lines `Guards: ...` in the docstrings of the tests; a test
compares. I: what holds while ktaskd runs ([ARCHITECTURE.md](../ARCHITECTURE.md)). S: how the code is written
([CONTRIBUTING.md](../CONTRIBUTING.md)).
"""


@dataclass(frozen=True)
class Guard:
    """A test, or all tests of a module, and the rule that it holds."""

    rule: str
    name: str


def rules_of(text: str) -> dict[str, str]:
    """Returns the words of each rule, by the rule's name."""
    return {name: words.strip() for name, words in _RULE.findall(text)}


def rules() -> dict[str, str]:
    """All rules, in the order of the documents."""
    return {name: words for document in DOCUMENTS for name, words in rules_of(_read(document)).items()}


def guards_of(source: Source) -> Iterator[Guard]:
    """The guards that a file of tests has."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            for line in _GUARDS.findall(ast.get_docstring(node) or ""):
                name = source.name if isinstance(node, ast.Module) else f"{source.name}::{node.name}"
                yield from (Guard(rule.strip(), name) for rule in line.split(","))


def guards() -> list[Guard]:
    """All guards, by the path of their files."""
    return [guard for source in sources() if within(source.module, ("tests",)) for guard in guards_of(source)]


def index(known: dict[str, str], found: list[Guard]) -> str:
    """The text of the index."""
    parts = [HEAD]
    for rule, words in known.items():
        names = [guard.name for guard in found if guard.rule == rule]
        parts.append(f"## {rule}\n\n{words}\n\n" + "".join(f"- `{name}`\n" for name in names))
    return "\n".join(parts)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    INDEX.write_text(index(rules(), guards()))
