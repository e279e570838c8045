"""The cases of each verb: a module with CASES for each."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.verbs.model import Case

CASES: dict[str, list[Case]] = {
    found.name: import_module(f"{__name__}.{found.name}").CASES for found in iter_modules(__path__)
}
"""By verb, in the order of the page."""
