"""Verbs: commands that do what a well-known program does, with its options, output and exit statuses.

Each verb has a module here with a `VERB`. It builds the parser without gRPC or protobuf, and imports what
does the work only within `run`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from ktask.cli.arguments import Parser

NAMES = ("compare", "compress", "copy", "decompress", "fill", "search", "sum", "warm")
"""The verbs; each is a module of this package."""


class Verb(NamedTuple):
    """A verb of the command line; none has --json.

    Args:
        parser: builds the parser of the words after the verb.
        run: does the work; returns the exit status.
        trouble: exit status of a wrong command line and of errors, as of the program that people know.
    """

    parser: Callable[[], Parser]
    run: Callable[[argparse.Namespace], int]
    trouble: int


def verb(name: str) -> Verb:
    """The verb of this name, which must be in `NAMES`."""
    found: Verb = import_module(f"{__name__}.{name}").VERB
    return found
