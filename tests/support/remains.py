"""Searches the memory of another process for bytes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ *(.*)")
_OF_THE_KERNEL = ("[vvar", "[vsyscall", "[vdso")


def places_of(pid: int, wanted: bytes) -> list[str]:
    """Names of all mappings that contain these bytes, "" for anonymous ones."""
    found = []
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end, rights, name in _LINE.findall(maps):
            if rights[0] == "r" and not name.startswith(_OF_THE_KERNEL):
                first, after = int(start, 16), int(end, 16)
                memory.seek(first)
                with contextlib.suppress(OSError):  # beyond the end of a file
                    if wanted in memory.read(after - first):
                        found.append(name)
    return found
