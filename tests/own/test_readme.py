"""The examples of the user's own code in the documents work as printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.arch.tree import REPOSITORY
from tests.plugins.test_plugins import environment
from tests.support.real_daemon import Daemon, running
from tests.support.users import reachable_directory

BIN = Path(sys.executable).parent


def block(mark: str, page: str) -> str:
    """The lines of the code block after a mark, of a page of docs."""
    text = (REPOSITORY / "docs" / page).read_text()
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_own_block_when_copied_then_it_works(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block("own", "python.md"))
    # A daemon of this user, like the embedded one that would be started.
    environ = {**os.environ, "KTASKD_SOCKET": str(daemon.place)}
    command = [sys.executable, "-W", "error", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    squares = str([n**2 for n in range(10)])
    assert done.stdout.splitlines() == ["{'value': 12582912.0}", squares, str(2**100)]


def test_plugin_block_when_copied_then_it_works() -> None:
    with reachable_directory() as place:
        python = environment(place / "venv")
        install, _, run = block("plugin", "own-functions.md").rpartition("ktask run")
        install = install.replace("/usr/lib/ktaskd/bin/python", str(python))
        # Packages that a test must not download.
        install = install.replace("python3 -m pip", f"{sys.executable} -m pip --disable-pip-version-check")
        install = install.replace("install ./lines", "install --quiet --no-deps --no-build-isolation ./lines")
        script = ["bash", "-euo", "pipefail", "-c"]
        subprocess.run([*script, install], check=True, cwd=place)
        (place / "some.txt").write_text("some\nlines\n" * 500_000)

        def popen(command: list[Any], **options: Any) -> subprocess.Popen[bytes]:
            words = [python, "-m", "ktaskd", *command[command.index("--runtime-dir") :]]
            return subprocess.Popen(words, **options)

        with running(place / "run", popen=popen) as daemon:
            environ = {
                **os.environ,
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "KTASKD_SOCKET": str(daemon.place),
            }
            command = [*script, "ktask run --json" + run]
            done = subprocess.run(command, check=True, cwd=place, env=environ, capture_output=True, text=True)
    assert '"lines": 1000000' in done.stdout
