"""Who is calling, as the kernel said."""

from __future__ import annotations

from dataclasses import dataclass

from ktaskd.model.memory import MemoryLimit
from ktaskd.model.priority import ORDINARY, Priority


@dataclass(frozen=True, slots=True)
class Identity:
    """Credentials of a connected peer. Authorise on uid and gid only.

    Args:
        pid: for display, and to find the caller's node and CPU limits; may be
            another process by now unless `pidfd` says otherwise.
        pidfd: refers to the process that connected; -1 if the kernel has none.
            Owned by the connection, valid while it lives.
        cpus: CPUs that the process might use when it connected; empty if not
            known.
        nid: node that it ran on when it connected; -1 if not known.
        cpu_quota: CPUs' worth of time that its cgroups allow; 0 = unlimited.
        start_ticks: when the process was started, which tells it from a later one
            of the same pid where there is no pidfd; 0 if not known.
        memory: its tightest memory limit when it connected; None = it had none.
        memory_known: whether that could be read.
        account: who pays for what it asks for, as `payer` has it; None = its own uid.
        priority: of the process when it connected.
    """

    uid: int
    gid: int
    pid: int
    pidfd: int = -1
    cpus: frozenset[int] = frozenset()
    nid: int = -1
    cpu_quota: float = 0.0
    start_ticks: int = 0
    memory: MemoryLimit | None = None
    memory_known: bool = True
    account: int | None = None
    priority: Priority = ORDINARY

    @property
    def payer(self) -> int:
        """The account that its costs are charged to: its own uid, or the account that several uids share.

        Shares and bounds go by account; rights go by uid alone.
        """
        return self.uid if self.account is None else self.account
