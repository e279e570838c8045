"""Charges what a job allocates to its caller, or refuses the job."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from ktaskd.host.cgroups.memgroup import counts_against, read_memory_group, read_memory_limit, why_not_enter
from ktaskd.host.processes.incarnation import Incarnation
from ktaskd.host.root import HostRoot
from ktaskd.model.errors import MemoryLimited
from ktaskd.model.function import Declaration
from ktaskd.model.identity import Identity
from ktaskd.model.memory import MemoryLimit
from ktaskd.model.source import SourceFacts, SourceKind


class LimitFor(Protocol):
    """Says in whose memory cgroup a job must run; `CallerMemory` does."""

    def limit_for(self, declaration: Declaration, who: Identity) -> MemoryLimit | None:
        """The limit whose group a guest must enter; None = any worker will do."""

    def reads_unpaid(self, who: Identity) -> bool:
        """Whether what ordinary workers allocate for this caller evades a memory limit that it has."""


class CallerMemory:
    """Decides at the submission of a job where its worker must be.

    A function that allocates, for a caller with a finite memory limit on any
    ancestor, must run below the group with that limit. If all our workers are there
    already, nothing needs to be done; otherwise one worker goes into the caller's own
    group; and if it cannot, the job is refused. How much is left below the limit does not
    matter: that number does not show who is charged.

    Args:
        workers: pids of all processes that run chunks, or fork those that do.
    """

    def __init__(self, root: HostRoot, workers: Callable[[], Iterable[int]]) -> None:
        """Hold what it is decided from."""
        self._root = root
        self._workers = workers

    def limit_for(self, declaration: Declaration, who: Identity) -> MemoryLimit | None:
        """The limit whose group a guest must enter for this job; None = any worker will do.

        Raises:
            MemoryLimited: no worker of ours can be where it must be.
        """
        if not declaration.allocates:
            return None
        limit = self._read(declaration, who)
        if limit is None:
            return None
        groups = [group for pid in self._workers() if (group := read_memory_group(self._root, pid))]
        if counts_against(limit, groups):
            return None
        why = why_not_enter(limit.group, groups)
        if why:
            raise MemoryLimited(
                f'function "{declaration.name}": allocates memory, and the caller may have '
                f"{limit.limit_bytes} bytes by the limit of {limit.limiting}, and this daemon cannot put a "
                f"worker into the caller's memory cgroup ({why}); use a daemon that is root, or delegate "
                "that cgroup to this one",
                limit=str(limit.limit_bytes),
                group=limit.group,
            )
        return limit

    def reads_unpaid(self, who: Identity) -> bool:
        """Whether what ordinary workers allocate for this caller evades a memory limit that it has.

        Asked for every job on memory, and so answered from what was read when the caller
        connected: one that was not limited then could have allocated by itself.
        """
        if who.memory_known and who.memory is None:
            return False
        groups = [group for pid in self._workers() if (group := read_memory_group(self._root, pid))]
        return who.memory is None or not counts_against(who.memory, groups)

    def _read(self, declaration: Declaration, who: Identity) -> MemoryLimit | None:
        """The limit as it is now, or the last known one if the process is gone."""
        held = Incarnation(self._root, who.pid, who.pidfd, who.start_ticks)
        try:
            fresh = read_memory_limit(self._root, who.pid)
            if held.alive:
                return fresh
        except ProcessLookupError:
            pass
        finally:
            held.close()
        if not who.memory_known:
            # Otherwise a limited caller could evade its limit by connecting through a short-lived process.
            raise MemoryLimited(
                f'function "{declaration.name}": allocates memory, and the memory cgroup of process '
                f"{who.pid}, which connected, could not be read (it ended at once, or is hidden); "
                "submit again from a process that lives until the job is accepted"
            )
        return who.memory


def as_allocating(declaration: Declaration, sources: Iterable[SourceFacts]) -> Declaration:
    """The same, and that it allocates where code that is not ours has memory mapped.

    A hole of memory is allocated by whoever looks at it through a mapping, even to read it.
    """
    foreign = declaration.native is not None or bool(declaration.plugin)
    in_memory = any(facts.kind is not SourceKind.FILE for facts in sources)
    return replace(declaration, allocates=True) if foreign and in_memory else declaration
