"""Makes CPython's test_concurrent_futures importable, here and in workers.

Its test programs and its pickles name it `test.test_concurrent_futures`. If the installed package `test`
lacks it, a package of that name that searches two directories replaces it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

DIRECTORY = "KTASK_CPYTHON_TESTS"
"""Name of the variable with the directory of test_concurrent_futures.py."""

PACKAGE = "KTASK_CPYTHON_PACKAGE"
"""Name of the variable with the directory in which the package `test` is made."""


def make_package(tests: Path, place: Path) -> None:
    """Make a package `test` in `place` with the installed modules and those in `tests`."""
    found = importlib.util.find_spec("test")
    installed = list(found.submodule_search_locations or ()) if found is not None else []
    (place / "test").mkdir()
    (place / "test" / "__init__.py").write_text(f"__path__ = {[*installed, os.fspath(tests)]!r}\n")
    os.environ[DIRECTORY], os.environ[PACKAGE] = os.fspath(tests), os.fspath(place)


def load() -> Any:
    """Return the module, which `make_package` has made importable in this process or in a parent."""
    if os.environ[PACKAGE] not in sys.path:
        sys.path.insert(0, os.environ[PACKAGE])
    return importlib.import_module("test.test_concurrent_futures")
