"""No module imports itself by way of others, in any package."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.arch.tree import Source, sources, within

PACKAGES = ("ktaskd", "ktask")

Graph = Mapping[str, Collection[str]]

OPEN: dict[str, tuple[str, ...]] = {
    "ktaskd": (),
    "ktask": (),
}
"""Circles that are still there. None may be added."""


def graph_of(chosen: Collection[Source]) -> Graph:
    """The modules that each module imports, anywhere in it, for type checkers too."""
    known = {source.module for source in chosen}
    return {source.module: set(imported(source, known)) - {source.module} for source in chosen}


def imported(source: Source, known: Collection[str]) -> Iterator[str]:
    """The modules themselves: `from package import module` needs the module, which finds the package."""
    names = {name for _, name in source.imports() if name in known}
    yield from (name for name in names if not any(other.startswith(f"{name}.") for other in names))


def circles(graph: Graph) -> list[str]:
    """Each group of modules that reach each other, as one string."""
    found: list[str] = []
    left = {module: set(needs) & graph.keys() for module, needs in graph.items()}
    while circle := first_circle(left):
        group = {one for one in left if reaches(left, circle, one) and reaches(left, one, circle)} | {circle}
        found.append(" ".join(sorted(group)))
        left = {module: needs - group for module, needs in left.items() if module not in group}
    return sorted(found)


def first_circle(graph: Graph) -> str:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return str(error.args[1][0])
    return ""


def reaches(graph: Graph, start: str, end: str) -> bool:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for needed in graph[ahead.pop()]:
            if needed == end:
                return True
            if needed not in seen and needed in graph:
                seen.add(needed)
                ahead.append(needed)
    return False


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_when_they_import_each_other_then_never_in_a_circle(package: str) -> None:
    chosen = [source for source in sources() if within(source.module, (package,))]
    assert circles(graph_of(chosen)) == list(OPEN[package])


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": ["b"], "b": ["c"], "c": []}, []),
        ({"a": ["b"], "b": ["a"]}, ["a b"]),
        ({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}, ["a b c"]),
        ({"a": ["b"], "b": ["a"], "c": ["d", "a"], "d": ["c"]}, ["a b", "c d"]),
    ],
)
def test_circles_when_there_are_some_then_found(graph: Graph, found: list[str]) -> None:
    assert circles(graph) == found
