"""A test is found by the name of what it tests.

`tests/pool/test_hosts.py` tests `ktaskd/pool/hosts.py`. A test of several modules together, or of one thing
that they do, names them in its docstring instead: "Tests: ktaskd/door/turns.py, ktaskd/door/relay.py".
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.arch.tree import REPOSITORY, Source, parsed, sources, within

MIRRORED = {
    **{path.name: f"ktaskd/{path.name}" for path in (REPOSITORY / "ktaskd").iterdir() if path.is_dir()},
    "client": "client/ktask",
}
"""By directory of tests: the package whose modules they are named after."""

_TESTS = re.compile(r"^Tests: (.+)$", re.MULTILINE)


def mirrored(source: Source) -> str:
    """The module that a test has the name of, there or not; "" where its directory mirrors no package."""
    parts = Path(source.name).parts
    package = MIRRORED.get(parts[1], "") if len(parts) > 2 and parts[-1].startswith("test_") else ""
    inner = "/".join(parts[2:-1])
    return "/".join(filter(None, (package, inner, parts[-1].removeprefix("test_")))) if package else ""


def complaint(source: Source) -> str:
    """Returns the complaint about the name of a test module; "" where nothing is."""
    wanted = mirrored(source)
    if not wanted or (REPOSITORY / wanted).is_file():
        return ""
    named = _TESTS.search(ast.get_docstring(source.tree) or "")
    if named is None:
        return f"{source.name}: there is no {wanted}, and no line `Tests: ...` in its docstring"
    paths = [path.strip() for path in named[1].split(",")]
    missing = [path for path in paths if not (REPOSITORY / path).exists()]
    return f"{source.name}: there is no {', '.join(missing)}" if missing else ""


def test_tests_when_of_a_package_then_named_after_what_they_test() -> None:
    """Guards: S9"""
    chosen = [source for source in sources() if within(source.module, ("tests",))]
    assert sum(bool(mirrored(source)) for source in chosen) > 100
    assert not [wrong for source in chosen if (wrong := complaint(source))]


def test_complaint_when_a_module_is_not_where_the_test_says_then_named() -> None:
    def at(path: str, text: str = "") -> str:
        return complaint(parsed(path, "x", text))

    assert not at("tests/planner/test_cursor.py")
    assert not at("tests/planner/cursors.py")
    assert not at("tests/fair/test_anything.py")
    assert "no ktaskd/planner/anything.py" in at("tests/planner/test_anything.py")
    assert "no ktaskd/planner/deep/cursor.py" in at("tests/planner/deep/test_cursor.py")
    assert not at(
        "tests/planner/test_anything.py", '"""X.\n\nTests: ktaskd/planner/cursor.py, ktaskd/planner\n"""'
    )
    assert "no ktaskd/planner/x.py" in at(
        "tests/planner/test_a.py", '"""X.\n\nTests: ktaskd/planner/x.py\n"""'
    )
