"""Code run in a process of its own, since it changes what cannot be changed back."""

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
    """What a fresh process prints, line by line."""
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
