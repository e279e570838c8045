"""The project's own source files, read for what they import and how long they are."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_PACKAGES = {
    "ktaskd": REPOSITORY,
    "client/ktask": REPOSITORY / "client",
    "tests": REPOSITORY,
    "tools": REPOSITORY,
}


@dataclass(frozen=True)
class Source:
    """One hand-written Python file."""

    path: Path
    module: str
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Its path in the repository, for messages."""
        return str(self.path.relative_to(REPOSITORY))

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and full name of each module that the file imports, anywhere in it.

        `from a import b` gives "a" and "a.b", since b may be a module.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from self._imports_from(node)

    def _imports_from(self, node: ast.ImportFrom) -> Iterator[tuple[int, str]]:
        base = node.module or ""
        if node.level:
            depth = node.level - (self.path.name == "__init__.py")
            parents = self.module.split(".")
            base = ".".join(filter(None, [*parents[: len(parents) - depth], base]))
        yield node.lineno, base
        yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)

    def functions(self) -> Iterator[tuple[str, int]]:
        """Name and length in lines of each function; a nested one counts in its outer one too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                yield node.name, (node.end_lineno or first) - first + 1


def parsed(name: str, module: str, text: str) -> Source:
    """A file that is not there, for tests of what reads files."""
    return Source(REPOSITORY / name, module, text, ast.parse(text))


@cache
def sources() -> tuple[Source, ...]:
    """All hand-written files."""
    found = []
    for package, base in _PACKAGES.items():
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                text = path.read_text()
                module = ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
                found.append(Source(path, module, text, ast.parse(text, str(path))))
    gc.collect()
    gc.freeze()  # some millions of objects, which every later collection would look through
    return tuple(found)


def within(module: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of these or lies in one of them."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)
