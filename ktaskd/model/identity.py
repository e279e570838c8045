"""The identity of a caller, as the kernel reports it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ktaskd.model.memory import MemoryLimit
from ktaskd.model.priority import ORDINARY, Priority


class Command:
    """The command line of a caller's process.

    Attributes:
        text: for display, without control characters; "" = not read yet, or not known. A thread sets it once.
    """

    __slots__ = ("text",)

    def __init__(self, text: str = "") -> None:
        """Start with what is known."""
        self.text = text


@dataclass(frozen=True, slots=True)
class Identity:
    """Credentials of a connected peer. Authorise on uid and gid only.

    Args:
        pid: for display, and to find the caller's node and CPU limits; may belong to another
            process by now unless `pidfd` shows otherwise.
        pidfd: refers to the process that connected; -1 if the kernel has no pidfds. Owned by the
            connection and valid as long as that.
        cpus: CPUs that the process could use when it connected; empty = not known.
        nid: node on which it ran when it connected; -1 = not known.
        cpu_quota: CPU time that its cgroups allow, in CPUs; 0 = unlimited.
        start_ticks: start time of the process, to distinguish it from a later process of the same
            pid if there is no pidfd; 0 = not known.
        memory: its tightest memory limit when it connected; None = no limit.
        memory_known: whether the memory limit could be read.
        account: the account that pays for its requests; None = its own uid.
        priority: priority of the process when it connected.
        command: its command line when it connected; one object for all jobs of the connection.
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
    command: Command = field(default_factory=Command, compare=False, repr=False)

    @property
    def payer(self) -> int:
        """The account that is charged for its requests: its own uid, or one that several uids share.

        Shares and bounds go by account; rights go by uid alone.
        """
        return self.uid if self.account is None else self.account
