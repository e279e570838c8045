"""Names of users, from the machine's own file: a name service may take forever to answer."""

from __future__ import annotations

from ktaskd.host.people.users import read_stamp, read_user_files
from ktaskd.host.root import HostRoot


class Names:
    """Names by uid, read again when the file has changed."""

    def __init__(self, root: HostRoot) -> None:
        """Read nothing yet."""
        self._root = root
        self._stamp: tuple[object, ...] | None = None
        self._names: dict[int, str] = {}

    def renew(self) -> None:
        """Read the file again if it has changed."""
        stamp = read_stamp(self._root)
        if stamp != self._stamp:
            self._stamp, self._names = stamp, parse(read_user_files(self._root).passwd)

    def __call__(self, uid: int) -> str:
        """Return the name of a user; the uid in digits if the file has none."""
        return self._names.get(uid, str(uid))


def parse(passwd: str) -> dict[int, str]:
    """Return the names by uid, of each uid the first; lines of another form count as missing."""
    names: dict[int, str] = {}
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] and fields[2].isascii() and fields[2].isdecimal():
            names.setdefault(int(fields[2]), fields[0])
    return names
