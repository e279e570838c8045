"""Command lines that run in this process."""

from __future__ import annotations

import contextlib
import io

from ktask.cli.main import main


def ktask_command(*words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command line run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return status, out.getvalue(), err.getvalue()
