"""The machine's users: from its files, from its name service, and the uid of nobody."""

from __future__ import annotations

import pwd
from dataclasses import dataclass

from ktaskd.host.root import HostRoot, read_number

PASSWD, SUBUID = "/etc/passwd", "/etc/subuid"
OVERFLOW_UID = 65534
"""Used if the kernel does not report it. Source: DEFAULT_OVERFLOWUID, linux/highuid.h"""

UIDS = 2**32 - 1
"""Number of uids; the last 32-bit number is not a uid."""


@dataclass(frozen=True, slots=True)
class UserFiles:
    """The texts of the files, and a stamp that changes with them."""

    passwd: str
    subuid: str
    stamp: tuple[object, ...]


def read_stamp(root: HostRoot) -> tuple[object, ...]:
    """Read a stamp that changes whenever one of the files does."""
    stamps: list[object] = []
    for name in (PASSWD, SUBUID):
        try:
            status = root.at(name).stat()
            stamps.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            stamps.append(None)
    return tuple(stamps)


def read_user_files(root: HostRoot) -> UserFiles:
    """Read both files; a missing file counts as empty."""
    stamp = read_stamp(root)
    texts = []
    for name in (PASSWD, SUBUID):
        try:
            texts.append(root.at(name).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            texts.append("")
    return UserFiles(texts[0], texts[1], stamp)


def is_known_to_name_service(uid: int) -> bool:
    """Whether there is a user with this uid, in files or a name service. May block forever."""
    try:
        pwd.getpwuid(uid)
    except (KeyError, OSError):
        return False
    return True


def find_uid(name: str) -> int | None:
    """Find the uid of a user, in files or a name service; None if there is none. May block forever."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, OSError, ValueError):
        return None


def read_nobody(root: HostRoot) -> int | None:
    """Read the uid for all users that our user namespace does not map; None if it maps all.

    Source: user_namespaces(7), /proc/sys/kernel/overflowuid
    """
    ranges = _read_mapped(root)
    if ranges is None or sum(map(len, ranges)) >= UIDS:
        return None
    found = read_number(root.proc / "sys/kernel/overflowuid")
    return OVERFLOW_UID if found is None else found


def is_mapped(root: HostRoot, uid: int) -> bool:
    """Whether our user namespace maps a user to this uid."""
    ranges = _read_mapped(root)
    return ranges is None or any(uid in one for one in ranges)


def _read_mapped(root: HostRoot) -> list[range] | None:
    """Uids that our user namespace maps; None if the kernel has no user namespaces."""
    text = root.process_text("self", "uid_map")
    if text is None:
        return None
    found = []
    for line in text.splitlines():
        start, _, count = map(int, line.split())
        found.append(range(start, start + count))
    return found
