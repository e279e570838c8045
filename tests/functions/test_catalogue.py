"""Every declaration is complete and has a body."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.functions import bodies
from ktaskd.functions.body import Body
from ktaskd.functions.catalogue import CATALOGUE, declarations
from ktaskd.model.function import ArgType, Declaration, Partial

MUST_BE_GIVEN = {
    *(("array.map", "ufunc"), ("mem.pattern", "record"), ("text.search", "pattern")),
    *(("text.extract", "pattern"), ("python.calls", "line")),
}
"""Arguments without a default."""

REPOSITORY = Path(__file__).resolve().parents[2]


def test_bodies_when_listed_then_the_same_names_as_declared() -> None:
    assert bodies.names() == frozenset(CATALOGUE)
    with pytest.raises(LookupError, match=r"'no\.such'"):
        bodies.find("no.such")


def test_declarations_when_not_for_tests_then_no_selftest() -> None:
    memory = {"mem.copy", "mem.fill", "mem.pattern", "mem.populate"}
    files = {"file.allocate", "file.compare", "file.copy", "file.punch", "file.warm"}
    sums = {"file.blake3", "file.crc32", "file.crc32c", "file.sha256", "file.sha512", "file.xxh3"}
    others = {"array.map", "array.reduce", "file.compress", "file.decompress", "text.search", "text.extract"}
    others |= {"file.manifest", "file.verify", "python.calls", "python.run"}
    assert set(declarations(False)) == memory | files | sums | others
    assert set(declarations(True)) == set(CATALOGUE)
    assert all(name.startswith("selftest.") for name in set(CATALOGUE) - set(declarations(False)))


def test_declarations_when_a_module_is_missing_then_unavailable_with_the_reason() -> None:
    found = declarations(False, lambda module: module != "anycrc")
    assert found["file.crc32c"].unavailable == (
        f"it needs anycrc; run `python3 -m pip --python {sys.executable} install 'ktaskd[functions]'` "
        "and restart the daemon"
    )
    assert not found["file.crc32"].unavailable
    assert not any(one.unavailable for one in declarations(True).values())


def test_bodies_when_a_module_is_missing_then_the_others_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ktaskd.functions.checksums.crc32c", None)
    monkeypatch.setattr(bodies, "_loaded", {})
    bodies.load_all()
    assert bodies.find("file.crc32")
    with pytest.raises(LookupError, match=r"'file\.crc32c': cannot be loaded"):
        bodies.find("file.crc32c")


def test_bodies_when_all_are_loaded_then_there_is_one_thread() -> None:
    code = (
        "import os, sys\n"
        "from ktaskd.functions import bodies\n"
        "bodies.load_all()\n"
        "sys.exit(len(os.listdir('/proc/self/task')) - 1)\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, env=environ)


def test_catalogue_when_imported_then_no_body_and_no_library() -> None:
    code = (
        "import sys\n"
        "from ktaskd.functions import catalogue\n"
        "bodies = {'ktaskd.functions.bodies', 'ktaskd.functions.body'}\n"
        "libraries = {'isal', 'ctypes', 'mmap', 'numpy', 'blake3', 'xxhash', 're2', 'zstandard', 'zlib_ng'}\n"
        "wrong = (libraries | bodies) & set(sys.modules)\n"
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
    for name in filter(None, (declaration.boundary, declaration.record)):
        (record,) = [item for item in declaration.arguments if item.name == name]
        assert record.type is ArgType.INT
    assert declaration.items or not declaration.whole_files


@pytest.mark.parametrize("declaration", CATALOGUE.values(), ids=lambda item: item.name)
def test_arguments_when_a_default_is_given_then_of_its_type(declaration: Declaration) -> None:
    types = {ArgType.INT: int, ArgType.FLOAT: float, ArgType.BOOL: bool, ArgType.STRING: str}
    for argument in declaration.arguments:
        if (declaration.name, argument.name) not in MUST_BE_GIVEN:
            assert type(argument.default) is types[argument.type]
        assert argument.summary.endswith(".")
        if argument.minimum is not None and isinstance(argument.default, int | float):
            assert argument.default >= argument.minimum
