"""Who it is that connects: a uid with its account, or nobody."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from ktaskd.model.errors import IdentityMissing, QuotaFull
from ktaskd.model.identity import Identity

SPARE_PART, SPARE_MAX = 4, 256
"""One descriptor of so many, at most so many, stay free for workers, jobs and files of the machine."""

ADMIN_SPARE = 16
"""So many stay free where an admin connects."""


class Reception:
    """The same for all doors.

    Args:
        account_of: who pays for a uid; None = the uid itself.
        nobody: the uid that everybody has whom our user namespace does not map.
        admins: uids for which descriptors and places are kept; None = uid 0 and the daemon's own.
    """

    def __init__(
        self,
        *,
        account_of: Callable[[int], int | None] = lambda _: None,
        nobody: int | None = None,
        admins: frozenset[int] | None = None,
    ) -> None:
        """Nobody has connected."""
        self.admins = frozenset({0, os.geteuid()}) if admins is None else admins
        self._account_of = account_of
        self._nobody = nobody

    def identify(self, pid: int, uid: int, gid: int) -> Identity:
        """The caller with these credentials; raises IdentityMissing if it could be anybody."""
        if uid == self._nobody:
            raise IdentityMissing(
                f"uid {uid} stands for every user that the daemon's user namespace does not map, so nobody"
                " knows who this is; run the daemon in a namespace that maps its users"
            )
        return Identity(uid=uid, gid=gid, pid=pid, account=self._account_of(uid))

    def check_room(self, who: Identity, fd: int) -> None:
        """Raise QuotaFull if too few descriptors would be left.

        Args:
            fd: the newest one. The kernel gives the lowest number that is free, so
                that as many are in use at least.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = ADMIN_SPARE if who.uid in self.admins else min(limit // SPARE_PART, SPARE_MAX)
        if limit != resource.RLIM_INFINITY and fd >= limit - spare:
            raise QuotaFull(
                f"descriptors: {fd} of the daemon's limit of {limit} are in use; raise its RLIMIT_NOFILE"
                " (LimitNOFILE= of the unit), or try again when others have ended"
            )

    def check_share(self, who: Identity, mine: int, others: int) -> None:
        """Raise QuotaFull if an account would hold more than half of the descriptors that others leave.

        Args:
            mine, others: descriptors that were handed over, of the account and of all others.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = limit - min(limit // SPARE_PART, SPARE_MAX) - others
        if limit != resource.RLIM_INFINITY and who.uid not in self.admins and mine > free // 2:
            raise QuotaFull(
                f"handles: the account of uid {who.uid} would hold {mine} descriptors, more than half of what"
                " others leave; give some back first"
            )
