"""Names of the checks, read without running their code, which works only in the virtual machine."""

from __future__ import annotations

import ast
from pathlib import Path

GUEST = Path(__file__).parent / "guest"


def names() -> list[str]:
    """The names, in the order in which the checks run."""
    tree = ast.parse((GUEST / "run.py").read_text())
    (rooms,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ROOMS"
    )
    return [name for room in rooms for name in _of(GUEST / f"{room}.py")]


def _of(path: Path) -> list[str]:
    return [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "check" for mark in node.decorator_list)
    ]
