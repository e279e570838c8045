"""Run code in a process of its own, since its changes cannot be undone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

IMPORTS = """
import os
from ktaskd.host.memory import mempolicy
from ktaskd.host.processes import process
from ktaskd.host.scheduling import sched
"""


def in_own_process(code: str) -> list[str]:
    """Run code in a fresh process and return the lines that it prints."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            IMPORTS + code,
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=True,
    )
    return ended.stdout.splitlines()
