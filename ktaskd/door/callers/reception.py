"""Identifies callers by uid and account, and keeps descriptors free for others."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from ktaskd.model.errors import IdentityMissing, QuotaFull
from ktaskd.model.identity import Identity

SPARE_PART, SPARE_MAX = 4, 256
"""One descriptor in this many, at most this many, stay free for workers, jobs and the machine's files."""

ADMIN_SPARE = 16
"""Descriptors that stay free when an admin connects."""


class Reception:
    """Identifies callers, in the same way for all doors.

    Args:
        account_of: returns the account that pays for a uid; None = the uid itself.
        nobody: the uid of all users that our user namespace does not map.
        admins: uids for which descriptors are kept free; None = uid 0 and the daemon's own.
    """

    def __init__(
        self,
        *,
        account_of: Callable[[int], int | None] = lambda _: None,
        nobody: int | None = None,
        admins: frozenset[int] | None = None,
    ) -> None:
        """Nobody is identified yet."""
        self.admins = frozenset({0, os.geteuid()}) if admins is None else admins
        self._account_of = account_of
        self._nobody = nobody

    def identify(self, pid: int, uid: int, gid: int) -> Identity:
        """Return the caller with these credentials; raises IdentityMissing if they fit any user."""
        if uid == self._nobody:
            raise IdentityMissing(
                f"uid {uid} stands for every user that the daemon's user namespace does not map, so this one"
                " cannot be identified; run the daemon in a namespace that maps its users"
            )
        return Identity(uid=uid, gid=gid, pid=pid, account=self._account_of(uid))

    def check_room(self, who: Identity, fd: int) -> None:
        """Raise QuotaFull if too few descriptors would be left.

        Args:
            fd: the newest one. The kernel assigns the lowest free number, so at least
                this many are in use.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = ADMIN_SPARE if who.uid in self.admins else min(limit // SPARE_PART, SPARE_MAX)
        if limit != resource.RLIM_INFINITY and fd >= limit - spare:
            raise QuotaFull(
                f"descriptors: {fd} of the daemon's limit of {limit} are in use; raise its RLIMIT_NOFILE"
                " (LimitNOFILE= of the unit), or try again when other connections have ended"
            )

    def check_share(self, who: Identity, mine: int, others: int) -> None:
        """Raise QuotaFull if an account would hold more than half of the descriptors that others leave.

        Args:
            mine, others: descriptors that the account and all others have handed over.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = limit - min(limit // SPARE_PART, SPARE_MAX) - others
        if limit != resource.RLIM_INFINITY and who.uid not in self.admins and mine > free // 2:
            raise QuotaFull(
                f"handles: the account of uid {who.uid} would hold {mine} descriptors, more than half of what"
                " others leave; drop some first"
            )
