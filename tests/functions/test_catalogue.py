"""Every declaration is whole, and has a body."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.functions import bodies
from ktaskd.functions.body import Body
from ktaskd.functions.catalogue import CATALOGUE, declarations
from ktaskd.model.function import ArgType, Declaration, Partial

REPOSITORY = Path(__file__).resolve().parents[2]


def test_bodies_when_listed_then_the_same_names_as_declared() -> None:
    assert bodies.names() == frozenset(CATALOGUE)
    with pytest.raises(LookupError, match=r"'no\.such'"):
        bodies.find("no.such")


def test_declarations_when_not_for_tests_then_no_selftest() -> None:
    assert set(declarations(False)) == {
        *("mem.fill", "mem.populate", "mem.copy", "mem.pattern", "file.crc32"),
        *("file.copy", "file.allocate", "file.punch", "file.warm", "file.compare"),
    }
    assert set(declarations(True)) == set(CATALOGUE)
    assert all(name.startswith("selftest.") for name in set(CATALOGUE) - set(declarations(False)))


def test_catalogue_when_imported_then_no_body_and_no_library() -> None:
    code = (
        "import sys\n"
        "from ktaskd.functions import catalogue\n"
        "bodies = {'ktaskd.functions.bodies', 'ktaskd.functions.body'}\n"
        "wrong = ({'isal', 'ctypes', 'mmap'} | bodies) & set(sys.modules)\n"
        "sys.exit(f'loaded: {wrong}' if wrong else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("declaration", CATALOGUE.values(), ids=lambda item: item.name)
def test_declaration_when_looked_at_then_it_is_whole(declaration: Declaration) -> None:
    body = type(bodies.find(declaration.name))
    assert declaration.summary.endswith(".")
    assert declaration.undo == bool(declaration.undo_summary) == (body.undo is not Body.undo)
    assert declaration.combine == (body.combine is not Body.combine)
    assert declaration.lifecycle == (body.prepare is not Body.prepare)
    assert body.run is not Body.run
    assert declaration.align >= 1
    assert declaration.min_chunk % declaration.align == 0
    assert declaration.probe >= declaration.min_chunk >= 1
    assert not declaration.writes_bytes or declaration.writes
    assert declaration.undo or declaration.partial is not Partial.UNDO_TOLERATES
    assert len({role.role for role in declaration.sources}) == len(declaration.sources)
    if declaration.boundary:
        (record,) = [item for item in declaration.arguments if item.name == declaration.boundary]
        assert record.type is ArgType.INT


@pytest.mark.parametrize("declaration", CATALOGUE.values(), ids=lambda item: item.name)
def test_arguments_when_a_default_is_given_then_of_its_type(declaration: Declaration) -> None:
    types = {ArgType.INT: int, ArgType.FLOAT: float, ArgType.BOOL: bool, ArgType.STRING: str}
    for argument in declaration.arguments:
        assert argument.default is None or type(argument.default) is types[argument.type]
        assert argument.summary.endswith(".")
        if argument.minimum is not None and isinstance(argument.default, int | float):
            assert argument.default >= argument.minimum
