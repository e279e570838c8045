"""The committed code of the contract is what the contract gives.

Guards: S8
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.arch.tree import REPOSITORY


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*pb*")
        if path.suffix in (".py", ".pyi", ".binpb")
    }


def test_generated_code_when_made_again_then_the_same(tmp_path: Path) -> None:
    output = tmp_path / "a directory"
    output.mkdir()
    command = [sys.executable, str(REPOSITORY / "tools" / "generate.py"), "--output", str(output)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    made, committed = files_of(output), files_of(REPOSITORY / "client")
    assert made.keys() == committed.keys()
    assert [name for name in made if made[name] != committed[name]] == [], "run `make proto`"
