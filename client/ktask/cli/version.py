"""`ktask --version`."""

from __future__ import annotations

import argparse
from importlib.metadata import version as installed

from ktask.cli.exits import DONE
from ktask.cli.output import print_document, print_out


def version(options: argparse.Namespace) -> int:
    """Print the version of what is installed."""
    if options.json:
        print_document({"version": installed("ktaskd")})
    else:
        print_out(f"ktask {installed('ktaskd')}")
    return DONE
