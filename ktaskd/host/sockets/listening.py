"""Whether a process listens at a unix socket, without connecting to it.

Source: Documentation/filesystems/proc.rst, /proc/net/unix; __SO_ACCEPTCON in linux/net.h
"""

from __future__ import annotations

import os
from pathlib import Path

from ktaskd.host.root import HostRoot, read_kernel_text

_ACCEPTS = 0x10000
_FLAGS_AT, _PATH_AT = 3, 7


def listens(root: HostRoot, path: Path) -> bool:
    """Whether a process of our network namespace listens at a path, as it was named in bind(2)."""
    name = os.fspath(path)
    for line in (read_kernel_text(root.proc / "net/unix") or "").splitlines()[1:]:
        fields = line.split(None, _PATH_AT)
        if len(fields) > _PATH_AT and fields[_PATH_AT] == name and int(fields[_FLAGS_AT], 16) & _ACCEPTS:
            return True
    return False
