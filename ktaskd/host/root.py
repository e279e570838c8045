"""The place of the kernel's files, which for a test is a directory with a whole fake machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class HostRoot:
    """The machine that is read: the real one, or a tree of files like it.

    Args:
        top: the directory that takes the place of "/".
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
        """Read a file of a process in procfs, as `read_kernel_text` does.

        The governor reads dozens of them, and making a Path for each would take longer
        than reading it.

        Args:
            pid: a number or "self".
        """
        return read_kernel_text(f"{self.top}/proc/{pid}/{name}")

    def at(self, path: str) -> Path:
        """The file with this absolute path on that machine."""
        return self.top / path.lstrip("/")


def read_kernel_text(path: Path | str) -> str | None:
    """Read a small file of procfs, sysfs or cgroupfs; None if it cannot be read.

    Files vanish with their process or device and may be hidden from us, so every reader
    has to handle that, and None is easier than an exception. Bytes that are not UTF-8 are
    kept like those in file names.
    """
    try:
        return _read_bytes(path).decode(errors="surrogateescape")
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None


def _read_bytes(path: Path | str) -> bytes:
    """Read a whole file in four system calls. `open` takes nine, and the governor reads about forty files."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(fd, _READ_BYTES)]
        while parts[-1]:
            parts.append(os.read(fd, _READ_BYTES))
    finally:
        os.close(fd)
    return b"".join(parts)


def matching(directory: Path, pattern: str) -> list[Path]:
    """Paths in a directory of the kernel that match a glob, sorted; none if it cannot be read.

    Path.glob raises an error if the directory is below one that we may not enter.
    """
    try:
        return sorted(directory.glob(pattern))
    except OSError:
        return []


def read_number(path: Path) -> int | None:
    """Read a small file with one integer; None if it has something else or cannot be read."""
    text = read_kernel_text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:  # not a number, or one of more than 4300 digits
        return None
