"""The declarations of the built-in thread functions.

The daemon needs nothing else about them. Imports no body: only workers load `bodies`, which has
those. A test compares the two lists.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec

from ktaskd.functions.declared import archives, arrays, checksums, files, memory, own, selftest, text
from ktaskd.model.function import Declaration

CATALOGUE: Mapping[str, Declaration] = {
    declaration.name: declaration
    for module in (memory, files, checksums, archives, text, arrays, own, selftest)
    for declaration in module.DECLARATIONS
}
"""All declarations by name, including those for self-tests."""


def is_installed(module: str) -> bool:
    """Whether a module could be imported, found out without loading it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def declarations(selftest: bool, is_there: Callable[[str], bool] = is_installed) -> Mapping[str, Declaration]:
    """The functions that a daemon offers.

    Args:
        selftest: offer the functions for tests as well.
        is_there: whether a module that a body needs can be loaded.
    """
    return {
        name: _as_it_is_here(item, is_there)
        for name, item in CATALOGUE.items()
        if selftest or not item.selftest
    }


def _as_it_is_here(declaration: Declaration, is_there: Callable[[str], bool]) -> Declaration:
    missing = [module for module in declaration.needs if not is_there(module)]
    if not missing:
        return declaration
    words = (
        f"it needs {' and '.join(missing)}; run `python3 -m pip --python {sys.executable} install "
        "'ktaskd[functions]'` and restart the daemon"
    )
    return replace(declaration, unavailable=words)
