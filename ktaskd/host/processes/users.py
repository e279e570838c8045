"""Who the machine's users are: its files, what only its name service knows, and who is nobody."""

from __future__ import annotations

import pwd
from dataclasses import dataclass

from ktaskd.host.root import HostRoot, read_number

PASSWD, SUBUID = "/etc/passwd", "/etc/subuid"
OVERFLOW_UID = 65534
"""Where the kernel does not say. Source: DEFAULT_OVERFLOWUID, linux/highuid.h."""

UIDS = 2**32 - 1
"""Uids that there are; the last number is none."""


@dataclass(frozen=True, slots=True)
class UserFiles:
    """The texts, and what tells whether they have changed."""

    passwd: str
    subuid: str
    stamp: tuple[object, ...]


def read_stamp(root: HostRoot) -> tuple[object, ...]:
    """Changes whenever one of the files does."""
    stamps: list[object] = []
    for name in (PASSWD, SUBUID):
        try:
            status = root.at(name).stat()
            stamps.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            stamps.append(None)
    return tuple(stamps)


def read_user_files(root: HostRoot) -> UserFiles:
    """Both files; one that is not there is empty."""
    stamp = read_stamp(root)
    texts = []
    for name in (PASSWD, SUBUID):
        try:
            texts.append(root.at(name).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            texts.append("")
    return UserFiles(texts[0], texts[1], stamp)


def is_known_to_name_service(uid: int) -> bool:
    """Whether there is a user with this uid, wherever it is kept. May take for ever."""
    try:
        pwd.getpwuid(uid)
    except (KeyError, OSError):
        return False
    return True


def find_uid(name: str) -> int | None:
    """The uid of a user, wherever it is kept; None if there is none. May take for ever."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, OSError, ValueError):
        return None


def read_nobody(root: HostRoot) -> int | None:
    """The uid that stands for everybody whom our user namespace does not map; None if it maps all.

    Source: user_namespaces(7), /proc/sys/kernel/overflowuid.
    """
    ranges = _read_mapped(root)
    if ranges is None or sum(map(len, ranges)) >= UIDS:
        return None
    found = read_number(root.proc / "sys/kernel/overflowuid")
    return OVERFLOW_UID if found is None else found


def is_mapped(root: HostRoot, uid: int) -> bool:
    """Whether our user namespace maps anybody to this uid."""
    ranges = _read_mapped(root)
    return ranges is None or any(uid in one for one in ranges)


def _read_mapped(root: HostRoot) -> list[range] | None:
    """Uids that our user namespace maps; None where the kernel has no such namespaces."""
    text = root.process_text("self", "uid_map")
    if text is None:
        return None
    found = []
    for line in text.splitlines():
        start, _, count = map(int, line.split())
        found.append(range(start, start + count))
    return found
