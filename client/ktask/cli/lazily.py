"""Modules that the command loads only if it uses them, though a module that it needs imports them.

gRPC imports asyncio for servers and clients of asyncio, and protobuf its implementation in Python even
where the one in C is used. The command needs neither, and loading them takes longer than a small job.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

NAMES = frozenset(
    {
        *("asyncio", "grpc.aio"),
        *("google.protobuf.internal.python_message", "google.protobuf.text_format"),
        *("hashlib", "json", "secrets", "shutil", "subprocess", "tempfile"),
        *("ktask.declarations", "ktask.status"),
    }
)
"""Modules whose importers use them only within functions. Python 3.11 may show a module that is being loaded
lazily to a second thread half loaded, so none of them may be one that two threads use first."""


class _Finder:
    """Finds the modules of `NAMES` where Python finds them, and has each loaded at its first use."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The place of a module, as `importlib.abc.MetaPathFinder` describes it."""
        spec = PathFinder.find_spec(name, path, target) if name in NAMES else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def load_lazily() -> None:
    """Load the modules of `NAMES` at their first use from now on, in this process."""
    sys.meta_path.insert(0, _Finder)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Load modules inside without garbage collections, which would find nothing to free."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
