"""A case: a line for the known program and one for ktask, and the outcome of each."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BIN = Path(sys.executable).parent
_PATIENCE_S = 100

_PROGRAMS = ("b3sum", "cksum", "cmp", "gzip", "sha256sum", "tar", "zstd")
"""Programs that not every machine has."""


@dataclass(frozen=True, slots=True)
class Case:
    """A shell line of a known program beside a line of ktask that must do the same.

    Args:
        title: the behaviour that is tried, in a few words; unique for its verb.
        model: shell line of the known program.
        ours: shell line of ktask.
        given: shell lines that prepare the empty directory in which either line runs.
        differs: the reason for a different outcome, for the page. Then the outcomes must differ.
        mtimes: whether times of modification must be the same.
    """

    title: str
    model: str
    ours: str
    given: str = ""
    differs: str = ""
    mtimes: bool = False

    @property
    def missing(self) -> list[str]:
        """The programs that it needs and that this machine does not have."""
        words = set(re.findall(r"\w+", f"{self.given} {self.model} {self.ours}"))
        return [name for name in _PROGRAMS if name in words and shutil.which(name) is None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a line.

    Args:
        complained: whether it wrote anything to standard error.
        tree: a description of each file that there is afterwards, by its path.
    """

    status: int
    out: bytes
    complained: bool
    tree: Mapping[bytes, str]


def run(case: Case, line: str, place: Path, socket: Path) -> tuple[Outcome, str]:
    """Run a line of this case in a directory that is made for it.

    Args:
        place: the directory, which must not exist.
        socket: the daemon's directory.
    Returns:
        Its outcome, and its messages.
    """
    place.mkdir()
    environment = {
        "PATH": f"{_BIN}:{os.environ['PATH']}",
        "HOME": str(place.parent),
        "LC_ALL": "C.UTF-8",
        "KTASKD_SOCKET": str(socket),
        "TZ": "UTC",
    }

    def sh(text: str) -> subprocess.CompletedProcess[bytes]:
        words = ["sh", "-c", f"umask 022\n{text}"]
        return subprocess.run(
            words,
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PATIENCE_S,
        )

    prepared = sh(f"set -e\n{case.given}")
    assert prepared.returncode == 0, prepared.stderr.decode()
    done = sh(line)
    outcome = Outcome(done.returncode, done.stdout, bool(done.stderr), _tree(place, case.mtimes))
    return outcome, done.stderr.decode(errors="replace")


def _tree(top: Path, mtimes: bool) -> dict[bytes, str]:
    found = {}
    for directory, directories, files in os.walk(os.fsencode(top)):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            found[os.path.relpath(path, os.fsencode(top))] = _described(path, mtimes)
    return found


def _described(path: bytes, mtimes: bool) -> str:
    status = os.lstat(path)
    parts = [stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"]
    if stat.S_ISLNK(status.st_mode):
        parts.append(f"-> {os.fsdecode(os.readlink(path))}")
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            parts.append(f"{status.st_size} bytes {hashlib.file_digest(file, 'sha256').hexdigest()}")
    if mtimes and not stat.S_ISLNK(status.st_mode):
        parts.append(f"{status.st_mtime_ns} ns")
    return " ".join(parts)
