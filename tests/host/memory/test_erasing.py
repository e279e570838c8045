"""Freed memory is inspected, and each of the two settings alone is not enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.host.memory.erasing import ENVIRONMENT

CODE = "from ktaskd.host.memory import erasing\nprint(*{erasing.erases() for _ in range(20)})\n"


@pytest.mark.parametrize("names", [list(ENVIRONMENT), [], *([name] for name in ENVIRONMENT)])
def test_memory_when_freed_then_erased_only_with_all_settings(names: list[str]) -> None:
    environment = {name: text for name, text in os.environ.items() if name not in ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment | {name: ENVIRONMENT[name] for name in names},
        cwd=Path(__file__).resolve().parents[3],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout.decode().strip() == str(len(names) == len(ENVIRONMENT))
