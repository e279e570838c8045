"""Runs the checks in the virtual machine, with the package's own interpreter."""

import sys

from guest import kit, units, users, nodes, priorities, limits, life  # noqa: F401, I001  in this order they run

kit.main(sys.argv[2:])
