"""Keeps the accounts of this machine up to date without holding up the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ktaskd.door.callers.accounts import STRANGERS, AccountTable, owner_names, parse_passwd, parse_subuids
from ktaskd.host.people.users import UserFiles

LOOK_S = 1.0
"""Shortest time between two checks of the files. They are checked only when somebody connects."""

NAMED_S = 600.0
"""How long an answer of the name service is valid."""

NAMED_MAX, PENDING_MAX = 4096, 256
"""Most answers that are kept, and most questions that wait."""


@dataclass(frozen=True, slots=True)
class UserSource:
    """Functions that read the machine's users.

    Args:
        stamp: returns a value that changes when the files do.
        read: reads the files; may take long.
        is_known: asks the name service whether a uid exists; may take forever.
        find_uid: asks the name service for the uid of a name; may take forever.
    """

    stamp: Callable[[], object]
    read: Callable[[], UserFiles]
    is_known: Callable[[int], bool]
    find_uid: Callable[[str], int | None] = lambda _: None


class AccountBook:
    """Accounts by uid.

    The name service may hang, as with a directory server that does not answer, so a
    thread asks it. Until it has answered the uid counts as unknown: it shares an
    account with others, and is served all the same.

    Args:
        now: returns seconds on any clock.
    """

    def __init__(self, source: UserSource, admins: frozenset[int], now: Callable[[], float]) -> None:
        """Read the files for the first time."""
        self._source = source
        self._admins = admins
        self._now = now
        self._named: dict[int, tuple[bool, float]] = {}
        self._pending: dict[int, None] = {}
        self._lock = threading.Lock()
        self._asking = self._reading = self._naming = False
        self._owners: dict[str, int | None] = {}
        """Answers of the name service about owners that the files do not know."""
        self._look_at_s = now() + LOOK_S
        self._read()

    def account_of(self, uid: int) -> int:
        """Return the account that pays for a uid."""
        self._look()
        found = self._table.find(uid)
        if found is not None:
            return found
        known, at_s = self._named.get(uid, (False, 0.0))
        if uid not in self._named or self._now() - at_s > NAMED_S:
            self._ask(uid)
        return uid if known else STRANGERS

    def _look(self) -> None:
        now_s = self._now()
        if now_s < self._look_at_s or self._reading:
            return
        self._look_at_s = now_s + LOOK_S
        if self._source.stamp() != self._stamp:
            self._reading = _start(self._read)

    def _read(self) -> None:
        files = self._source.read()
        uids = parse_passwd(files.passwd)
        named = {name: uid for name, uid in self._owners.items() if uid is not None}
        ranges = parse_subuids(files.subuid, named | uids)
        self._table = AccountTable(uids.values(), ranges, self._admins)
        self._stamp = files.stamp
        self._reading = False
        unknown = owner_names(files.subuid) - uids.keys() - self._owners.keys()
        if unknown and not self._naming:
            self._naming = _start(lambda: self._find_owners(unknown))

    def _find_owners(self, names: set[str]) -> None:
        """Look up each owner once; until then the uids of its ranges count as unknown."""
        self._owners = self._owners | {name: self._source.find_uid(name) for name in names}
        self._naming = False
        self._read()

    def _ask(self, uid: int) -> None:
        with self._lock:
            if len(self._pending) < PENDING_MAX:
                self._pending[uid] = None
            if self._asking:
                return
            self._asking = True
        if not _start(self._answer_all):
            self._asking = False

    def _answer_all(self) -> None:
        while True:
            with self._lock:
                uid = next(iter(self._pending), None)
                if uid is None:
                    self._asking = False
                    return
            known = self._source.is_known(uid)
            with self._lock:
                if len(self._named) >= NAMED_MAX:
                    self._named.clear()
                self._named[uid] = (known, self._now())
                del self._pending[uid]


def _start(work: Callable[[], None]) -> bool:
    """Run `work` in a thread that nobody waits for, since it may hang; False if none can be started."""
    try:
        threading.Thread(target=work, name="accounts", daemon=True).start()
    except RuntimeError:
        return False
    return True
