"""The recipes of docs/grpcurl.md work as written."""

from __future__ import annotations

import json
import os
import re
import subprocess

from tests.readme.blocks import blocks
from tests.support.real_daemon import GRPCURL, PATIENCE_S, Daemon
from tests.support.users import REPOSITORY

PAGE = REPOSITORY / "docs" / "grpcurl.md"

_SOCKET = "S=~/ktaskd/ktaskd.sock"


def script(daemon: Daemon) -> str:
    """All blocks of the page as one program, with the socket of this daemon."""
    text = "".join(block.text for block in blocks(PAGE.read_text()))
    assert text.count(_SOCKET) == 1
    # A stream without an end is cut soon: the test waits for no clock but the daemon's first message.
    return text.replace(_SOCKET, f"S={daemon.socket}").replace("-max-time 2", "-max-time 0.5")


def test_recipes_when_typed_then_each_ends_well(daemon: Daemon) -> None:
    path = os.pathsep.join([str(GRPCURL.parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "KTASKD_SOCKET": str(daemon.socket)}
    command = ["bash", "-euo", "pipefail", "-c", script(daemon)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE_S, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in ("// Submit accepts a job", '"name": "passwd"', '"final": true', '"story": {'):
        assert shown in done.stdout
    modes = re.findall(r'"mode": "(MODE_[A-Z]+)"', done.stdout)
    assert modes[-2:] == ["MODE_PAUSED", "MODE_AUTO"]
    assert json.loads(done.stdout[done.stdout.rindex("\n{") :]) == {"status": "SERVING"}
