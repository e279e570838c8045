"""`ktask --version`."""

from __future__ import annotations

import argparse

from ktask.cli.exits import DONE
from ktask.cli.output import print_document, print_out

VERSION = "0.1.0"
"""That of the daemon in the same package. Looking it up among the installed packages would take 15 ms."""


def version(options: argparse.Namespace) -> int:
    """Print the version of what is installed."""
    if options.json:
        print_document({"version": VERSION})
    else:
        print_out(f"ktask {VERSION}")
    return DONE
