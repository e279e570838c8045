"""Where the kernel's files are, so that a directory can be a whole fake machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class HostRoot:
    """The machine that is read: the real one, or a tree of files like it.

    Args:
        top: what stands for "/".
    """

    top: Path = Path("/")

    @property
    def proc(self) -> Path:
        """Its procfs."""
        return self.top / "proc"

    @property
    def sys(self) -> Path:
        """Its sysfs."""
        return self.top / "sys"

    def process_text(self, pid: int | str, name: str) -> str | None:
        """What procfs says of a process, as `read_kernel_text`.

        The governor asks for some dozens of them, and making a Path of each takes
        longer than reading it.

        Args:
            pid: a number or "self".
        """
        return read_kernel_text(f"{self.top}/proc/{pid}/{name}")

    def at(self, path: str) -> Path:
        """What has this absolute path on that machine, as a mount point has."""
        return self.top / path.lstrip("/")


def read_kernel_text(path: Path | str) -> str | None:
    """A small file of procfs, sysfs or cgroupfs; None if it cannot be read.

    Files vanish with their process or device and may be hidden from us, so
    every reader needs an answer for that and none wants an exception. Bytes
    that are no text survive as in file names.
    """
    try:
        return _read_bytes(path).decode(errors="surrogateescape")
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None


def _read_bytes(path: Path | str) -> bytes:
    """All of a file, in four system calls: `open` takes nine, and the governor reads some forty files."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(fd, _READ_BYTES)]
        while parts[-1]:
            parts.append(os.read(fd, _READ_BYTES))
    finally:
        os.close(fd)
    return b"".join(parts)


def matching(directory: Path, pattern: str) -> list[Path]:
    """Paths in a directory of the kernel's that match a glob, sorted; none where it may not be read.

    Path.glob raises where the directory is below one that may not be entered.
    """
    try:
        return sorted(directory.glob(pattern))
    except OSError:
        return []


def read_number(path: Path) -> int | None:
    """A small file that is one whole number; None if it is none or cannot be read."""
    text = read_kernel_text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:  # no number, or one of more than 4300 digits
        return None
