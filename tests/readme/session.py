"""One shell that runs everything that a reader types, and its output."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 300.0
"""For a command that hangs; no test measures it."""

_BEGIN, _END = "\x1e", "\x1f"


@dataclass(frozen=True, slots=True)
class Done:
    """One command and its outcome.

    Args:
        output: standard output and standard error together.
    """

    command: str
    status: int
    output: str


def run(commands: Sequence[str], directory: Path, home: Path, uid: int) -> list[Done]:
    """Have one bash run the commands in order; its background jobs end with it.

    The environment is that of a fresh login: no variable of this process is in it.

    Args:
        directory: where the first command is run.
        uid: the user of the shell; it has the group of the same number, and no other.
    """
    script = "\n".join(["set +m", *(_framed(i, command) for i, command in enumerate(commands)), _EPILOGUE])
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
    marks = {name: value for name, value in os.environ.items() if name == "KTASKD_TEST_RUN"}
    output = home / ".output"
    user: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if uid != os.geteuid() else {}
    with output.open("wb") as out:
        subprocess.run(
            ["bash", "--norc", "--noprofile", "-c", script],
            check=True,
            cwd=directory,
            env=environment | marks,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            timeout=TIMEOUT_S,
            **user,
        )
    text = output.read_text(errors="replace")
    return [_done(i, command, text) for i, command in enumerate(commands)]


_EPILOGUE = "kill $(jobs -p) 2>/dev/null; wait"


def _framed(i: int, command: str) -> str:
    """The command, with a mark before its output and its status after it."""
    begin, end = (shlex.quote(f"{mark}{i} ") for mark in (_BEGIN, _END))
    return f"printf %s {begin}\n{command}\nprintf '%s%s\\n' {end} $?"


def _done(i: int, command: str, text: str) -> Done:
    found = re.search(f"{_BEGIN}{i} (.*?){_END}{i} (\\d+)\n", text, re.DOTALL)
    if found is None:
        return Done(command, -1, text[-2000:])
    return Done(command, int(found[2]), found[1])
