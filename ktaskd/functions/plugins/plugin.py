"""Functions of installed packages: entry points of the group "ktaskd.functions".

An entry point has the name of its function. It is a subclass of Body whose attribute `declaration` is
a Declaration. Run as a program with names of entry points, this module prints their declarations and
ends; the daemon itself never loads a plug-in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from ktaskd.functions.body import Body
from ktaskd.functions.plugins.described import DescriptionInvalid, from_json, to_json
from ktaskd.model.function import Declaration

GROUP = "ktaskd.functions"


def installed() -> list[EntryPoint]:
    """All entry points, sorted by name; loads none."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def load(name: str) -> Body:
    """The body of a function; raises LookupError."""
    for point in installed():
        if point.name == name:
            try:
                body: Body = point.load()()
            except Exception as error:
                raise LookupError(
                    f"function {name!r}: {point.value}: {type(error).__name__}: {error}"
                ) from error
            return body
    raise LookupError(f"function {name!r}: no installed package has it any more")


def describe(point: EntryPoint) -> Declaration:
    """The declaration of an entry point; raises DescriptionInvalid if the class does not match it."""
    try:
        kind = point.load()
        declaration = kind.declaration
    except Exception as error:
        raise DescriptionInvalid(f"{type(error).__name__}: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Body) and isinstance(declaration, Declaration)):
        raise DescriptionInvalid("wanted a subclass of Body whose attribute declaration is a Declaration")
    if declaration.name != point.name:
        raise DescriptionInvalid(f'name: got "{declaration.name}", wanted the name of the entry point')
    for name, declared in (
        ("undo", declaration.undo),
        ("combine", declaration.combine),
        ("prepare", declaration.lifecycle),
    ):
        if declared != (getattr(kind, name) is not getattr(Body, name)):
            problem = "declared but not implemented" if declared else "implemented but not declared"
            raise DescriptionInvalid(f"{name}: {problem}")
    return from_json(to_json(replace(declaration, plugin=point.value)))


def install_dir_of(point: EntryPoint) -> str:
    """The directory into which the package of an entry point was installed."""
    return str(point.dist.locate_file("")) if point.dist is not None else "/"


def code_of(point: EntryPoint) -> list[str]:
    """Files and directories of an entry point's code, as far as known without loading it."""
    try:
        spec = find_spec(point.module.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.submodule_search_locations:
        return list(spec.submodule_search_locations)
    return [spec.origin] if spec is not None and spec.has_location and spec.origin else []


def main(names: Sequence[str]) -> int:
    """Print the declarations of the named entry points as JSON."""
    functions, problems = [], []
    for point in (point for point in installed() if point.name in names):
        try:
            functions.append(to_json(describe(point)))
        except DescriptionInvalid as error:
            problems.append(f"entry point {point.name} ({point.value}): {error}")
    # Separated by NUL from whatever the plug-ins print when they are loaded.
    sys.__stdout__.write("\0" + json.dumps({"functions": functions, "problems": problems}))  # type: ignore[union-attr]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
