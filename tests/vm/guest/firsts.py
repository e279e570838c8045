"""The first things that a user types after the package was installed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import select
import subprocess
import time
from pathlib import Path

from .kit import PATIENCE_S, check, require, run
from .users import FILE, make_users

_SCREEN = (b"node 0", b"node 1", b"quit")
"""Parts of the first screen of `ktask top`."""


@check
def first_checksum_when_a_user_types_it_then_that_of_sha256sum() -> str:
    """alice is in the group ktask."""
    make_users()
    printed = run("ktask", "sum", str(FILE), user="alice")
    require(printed == f"{hashlib.sha256(FILE.read_bytes()).hexdigest()}  {FILE}\n", printed)
    return printed[:12]


@check
def first_archive_when_a_user_types_it_then_it_can_be_unpacked() -> str:
    """A stream of tar goes through the daemon's workers and back."""
    lines = """
        cd ~ && tar c /usr/lib/systemd | ktask compress > x.tar.zst && ktask decompress -c x.tar.zst |
        tar t | wc -l && find /usr/lib/systemd | wc -l && stat -c %s x.tar.zst"""
    *_, listed, found, size = run("sh", "-c", lines, user="alice").split()
    require(listed == found, f"{listed} files in the archive, {found} in the tree")
    return f"{found} files, {size} bytes"


def _read(terminal: int) -> bytes:
    return os.read(terminal, 1 << 16) if select.select([terminal], [], [], 1)[0] else b""


@check
def first_top_when_a_user_types_it_then_nodes_and_keys_are_shown() -> str:
    """On a terminal of 80 columns; q ends it."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    words = ["runuser", "-u", "alice", "--", "ktask", "top"]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown, end = b"", time.monotonic() + PATIENCE_S
        # The terminal ends, with an error, when its last program has ended.
        with contextlib.suppress(OSError):
            while time.monotonic() < end and not all(part in shown for part in _SCREEN):
                shown += _read(ours)
            os.write(ours, b"q")
            while time.monotonic() < end:
                shown += _read(ours)
        process.wait(PATIENCE_S)
    os.close(ours)
    require(all(part in shown for part in _SCREEN), shown.decode(errors="replace"))
    require(process.returncode == 0, f"status {process.returncode}: {shown[-500:]!r}")
    return f"{len(shown)} bytes"


@check
def package_when_installed_then_its_pages_and_completions_are_there() -> str:
    """The manual pages and completions are where man and the shells look."""
    pages = sorted(Path("/usr/share/man").rglob("ktask*"))
    require({"ktask.1.gz", "ktaskd.8.gz", "ktaskd.toml.5.gz"} <= {page.name for page in pages}, f"{pages}")
    shells = [
        "bash-completion/completions/ktask",
        "zsh/vendor-completions/_ktask",
        "fish/vendor_completions.d/ktask.fish",
    ]
    for name in shells:
        require((Path("/usr/share") / name).is_file(), f"/usr/share/{name} is missing")
    return f"{len(pages)} pages"
