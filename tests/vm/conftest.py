"""The machine is booted once, and only where it was asked for."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("KTASKD_VM_TEST") == "1" else ["test_*.py"]
