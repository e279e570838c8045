"""The shape of the code: short modules in `jobs`, few parameters, and classes that change themselves."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.arch.tree import Source, sources, within

ROOM = "ktaskd.jobs"
LINES_MAX, LINES_MEDIAN = 400, 180
PARAMETERS_MAX = 6
WRITTEN_BY_OTHERS_MAX = 12


PUBLIC_FACE = {"client.py: run", "client.py: submit"}
"""Functions whose parameters are documented one by one for users, and given by name."""


def of_room() -> list[Source]:
    return [source for source in sources() if within(source.module, (ROOM,))]


def of_product() -> list[Source]:
    return [source for source in sources() if within(source.module, ("ktaskd", "ktask"))]


def test_modules_when_counted_then_short() -> None:
    lengths = {source.name: len(source.text.splitlines()) for source in of_room()}
    assert len(lengths) > 40
    assert not {name: lines for name, lines in lengths.items() if lines > LINES_MAX}
    assert median(lengths.values()) < LINES_MEDIAN


def test_functions_when_their_parameters_are_counted_then_six_at_most() -> None:
    many = []
    for source in of_product():
        for node in ast.walk(ast.parse(source.text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                count = len(names) - (names[:1] in (["self"], ["cls"]))
                if count > PARAMETERS_MAX:
                    many.append(f"{Path(source.name).name}: {node.name}")
    assert sorted(many) == sorted(PUBLIC_FACE)


def written(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(variable, attribute) of each assignment to an attribute of something else than `self`."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(one, ast.Attribute):
                    owner = one.value
                    name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "?")
                    if name != "self":
                        yield name, one.attr


def test_classes_when_others_write_their_attributes_then_a_dozen_at_most() -> None:
    """A variable is named for its class here: `job`, `worker`, `crew`, `course`, `tally`, `record`."""
    attributes: defaultdict[str, set[str]] = defaultdict(set)
    for source in of_product():
        for name, attribute in written(ast.parse(source.text)):
            attributes[name].add(attribute)
    assert attributes["job"], "the test finds nothing any more"
    assert not {
        name: sorted(found) for name, found in attributes.items() if len(found) > WRITTEN_BY_OTHERS_MAX
    }
