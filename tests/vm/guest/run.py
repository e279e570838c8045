"""Runs the checks in the virtual machine, with the package's own interpreter."""

import sys

from . import kit, life, limits, nodes, priorities, units, users  # noqa: F401  in this order they run

kit.main(sys.argv[2:])
