"""The documents' example of a native function works exactly as printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.arch.tree import REPOSITORY
from tests.support.real_daemon import running, write_config
from tests.support.users import reachable_directory


def block(mark: str) -> str:
    """The lines of the block after a mark."""
    text = (REPOSITORY / "docs" / "own-functions.md").read_text()
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_native_block_when_copied_then_it_works() -> None:
    with reachable_directory() as place:
        functions = place / "functions.d"
        functions.mkdir()
        before, _, run = (
            block("native").replace("/etc/ktaskd/functions.d", str(functions)).rpartition("ktask run")
        )
        environ = {**os.environ, "CPATH": str(REPOSITORY / "deploy")}
        script = ["bash", "-euo", "pipefail", "-c"]
        subprocess.run([*script, before], check=True, cwd=place, env=environ)
        (place / "some.bin").write_bytes(bytes(range(256)) * 10_000)
        config = write_config(place / "c", functions={"dir": str(functions)})
        with running(place / "run", "--config", config) as daemon:
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            environ |= {"PATH": path, "KTASKD_SOCKET": str(daemon.place)}
            subprocess.run([*script, "ktask run" + run], check=True, cwd=place, env=environ)
        assert (place / "some.bin").read_bytes() == bytes(range(255, -1, -1)) * 10_000
