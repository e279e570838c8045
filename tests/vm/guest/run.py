"""Run the checks in the virtual machine, with the package's own interpreter."""

from __future__ import annotations

import importlib
import sys

from . import kit

ROOMS = ("units", "users", "firsts", "disks", "nodes", "priorities", "limits", "life")
"""Modules in order: the first one starts the service, the last one removes the package."""

if __name__ == "__main__":
    for room in ROOMS:
        importlib.import_module(f"{__package__}.{room}")
    kit.main(sys.argv[2:])
