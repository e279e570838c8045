"""Linters and the type checker report nothing.

Guards: S5
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.tree import REPOSITORY


def check(*command: str) -> None:
    """Run a tool of our environment; fail with its output."""
    words = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    # buf needs a directory of its own even if there is no home.
    environment = {**os.environ, "BUF_CACHE_DIR": str(REPOSITORY / ".cache" / "buf")}
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)


def test_style_when_checked_then_content() -> None:
    check("ruff", "check", "--quiet", "--output-format", "concise")


def test_format_when_checked_then_content() -> None:
    check("ruff", "format", "--quiet", "--check")


def test_contract_when_checked_then_content() -> None:
    check("buf", "lint", "proto")


# From an empty cache the whole project takes longer than one test may.
@pytest.mark.timeout(600)
def test_types_when_checked_then_content() -> None:
    check("mypy", "--no-error-summary")
