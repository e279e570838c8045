"""The project's English: no banned opener or word in code, tests, documents and units."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.arch.english import Finding, files_below, findings_in, look_at

ROOT = Path(__file__).resolve().parents[2]

PENDING: frozenset[str] = frozenset()
"""Parts that still have findings. The entry is removed with the last one."""

LEFT_OUT = {"README.md", "CHANGELOG.md", "__pycache__", "data"}
"""README is written separately; old entries of a changelog stay as they were published."""

PARTS = sorted(
    str(path.relative_to(ROOT))
    for directory in ("ktaskd", "client", "tests", ".")
    for path in (ROOT / directory).iterdir()
    if (path.is_dir() and directory != ".") or path.suffix in {".py", ".md"}
    if path.name not in {"__pycache__", "data"}
    and path.name not in LEFT_OUT
    and not path.name.startswith(".")
)


def findings_of(part: str) -> list[Finding]:
    own = Path("tests/arch/english.py"), Path("tests/arch/test_english.py")
    return [
        finding
        for file in files_below(ROOT / part)
        if file.relative_to(ROOT) not in own
        for finding in look_at(file)
    ]


@pytest.mark.parametrize("part", [*PARTS, "docs", "tools", "deploy", "proto"])
def test_prose_when_read_then_plain(part: str) -> None:
    found = findings_of(part)
    if part in PENDING:
        assert found, f"{part} is clean: take it off PENDING"
    else:
        assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Who asks is not told.", 1),
        ("It works. Where it does not, try again.", 1),
        ("What happens when a worker dies?", 0),
        ("The name says where it is. `Where` is a word.", 0),
        ("What is\nkept for ever: so long it may.", 2),
        ("Done anew; else it shall wait.", 2),
    ],
)
def test_findings_when_a_text_is_given_then_as_many(text: str, count: int) -> None:
    assert len(list(findings_in(text))) == count
