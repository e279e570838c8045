"""Everything that the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[2]


def guards() -> list[str]:
    text = (TOP / "ARCHITECTURE.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| I\d+ \|", line)]
    assert len(rows) == 13
    return [name for row in rows for name in re.findall(r"`(tests/[^`]+)`", row)]


def test_invariants_when_they_name_a_guard_then_there_is_one() -> None:
    for name in guards():
        path, _, test = name.partition("::")
        assert (TOP / path).exists(), name
        if test:
            assert f"def {test}(" in (TOP / path).read_text(), name


def test_readme_when_read_then_it_names_the_two_commands_and_its_links_lead_somewhere() -> None:
    text = (TOP / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (TOP / target).exists(), target
