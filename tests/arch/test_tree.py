"""The reader of sources, on which the other tests here rely, sees every import and function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.arch.tree import Source, sources, within

TEXT = """
import a.b, c
from d import e
def one():
    import f
    from g.h import *
if TYPE_CHECKING:
    from . import i
    from .j import k
    from .. import m
@decorated(
    1
)
async def two():

    pass
"""


def names(path: str, module: str) -> set[str]:
    return {name for _, name in Source(Path(path), module, TEXT, ast.parse(TEXT)).imports()}


def test_imports_when_anywhere_in_the_file_then_seen() -> None:
    always = {"a.b", "c", "d", "d.e", "f", "g.h", "g.h.*"}
    assert names("x/y/z.py", "x.y.z") == always | {"x.y", "x.y.i", "x.y.j", "x.y.j.k", "x", "x.m"}
    assert names("x/y/__init__.py", "x.y") == always | {"x.y", "x.y.i", "x.y.j", "x.y.j.k", "x", "x.m"}


def test_functions_when_decorated_then_counted_from_the_decorator() -> None:
    source = Source(Path("x.py"), "x", TEXT, ast.parse(TEXT))
    assert sorted(source.functions()) == [("one", 3), ("two", 6)]


@pytest.mark.parametrize(
    "module", ["ktaskd", "ktaskd.host.root", "ktask", "ktask.v1", "tests.arch.tree", "tools.generate"]
)
def test_sources_when_asked_then_all_packages_are_there(module: str) -> None:
    assert module in {source.module for source in sources()}


def test_within_when_names_only_begin_alike_then_not_within() -> None:
    assert within("a.b.c", ("a.b",))
    assert within("a.b", ("a.b",))
    assert not within("a.bc", ("a.b",))
