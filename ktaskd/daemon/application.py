"""The parts of a running daemon, by what they are for, and its life as the parts see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ktaskd.api.state import Reloaded
from ktaskd.daemon.config import Config
from ktaskd.daemon.events import WorkerEvents
from ktaskd.daemon.found import Found
from ktaskd.daemon.garbage import Garbage
from ktaskd.daemon.givingback import GivingBack
from ktaskd.daemon.hostconfig import WorkerUser
from ktaskd.daemon.idle import IdleEnd
from ktaskd.daemon.lacking import Lacking
from ktaskd.daemon.metering import Metering
from ktaskd.daemon.notify import Notifier
from ktaskd.daemon.pools import Pools
from ktaskd.daemon.start import Start
from ktaskd.daemon.watchdog import Watchdog
from ktaskd.door.callers.peers import PeerTable
from ktaskd.door.entry import Entry
from ktaskd.door.handoff.door import HandoffDoor
from ktaskd.door.handoff.handles import BackgroundCloser, HandleTable
from ktaskd.door.handoff.keepers import Keepers
from ktaskd.door.relay.door import RelayDoor
from ktaskd.governor.governor import Governor
from ktaskd.governor.watch import Watch
from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.intake.submit import Intake
from ktaskd.jobs.callers import Callers
from ktaskd.jobs.engine import Engine
from ktaskd.model.allowance import Allowance
from ktaskd.model.topology import Topology


class Lifecycle(Protocol):
    """The daemon's life, as its parts see it: they report to it, and clients steer it."""

    @property
    def config(self) -> Config:
        """The configuration in force."""

    @property
    def stopping(self) -> bool:
        """Whether the daemon ends."""

    def stop(self) -> None:
        """End the daemon."""

    def status(self) -> str:
        """Describe the daemon's state for the service manager."""

    def on_change(self) -> None:
        """Act on a connection that was opened or closed."""

    def on_idle(self) -> None:
        """Act on the end of the last job."""

    def on_allowance(self, allowance: Allowance) -> None:
        """Act on a new decision of the governor."""

    def on_lost(self) -> None:
        """Act on the loss of the runtime directory."""

    def reload(self) -> Reloaded:
        """Read the configuration file again; raises ReloadFailed and then changes nothing."""

    async def set_draining(self, draining: bool) -> None:
        """Stop or resume the acceptance of jobs."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about the machine and the daemon's own user at the start.

    Args:
        files: the limit of open files.
        allowance: the largest one that the governor may give.
    """

    root: HostRoot
    topology: Topology
    files: int
    user: WorkerUser
    allowance: Allowance
    admins: frozenset[int]


@dataclass(frozen=True, slots=True)
class Workers:
    """The engine and the processes that it gives work to.

    Args:
        group: the helpers' own cgroup, if one could be made.
        no_group: why there is no such cgroup; "" = there is one, or none is needed.
    """

    engine: Engine
    pools: Pools
    events: WorkerEvents
    raiser: Raiser
    group: IdleGroup | None
    no_group: str


@dataclass(frozen=True, slots=True)
class Doors:
    """The two public doors, and what clients hold through them."""

    entry: Entry
    peers: PeerTable
    relay: RelayDoor
    handoff: HandoffDoor
    handles: HandleTable
    keepers: Keepers

    def held_bytes(self) -> int:
        """Return the bytes of requests and answers that the daemon holds for clients."""
        return self.entry.turns.answers.total + self.relay.requests.total

    def counts(self) -> dict[str, int]:
        """Return the counters that a status shows, by name."""
        return {
            "connections": self.relay.connections,
            "connections_refused": self.relay.refused,
            "handoff_connections": self.handoff.connections,
            "handoffs_refused": self.handoff.refused,
            "handles": len(self.handles),
            "keepers": len(self.keepers.pids()),
            "keepers_lost": self.keepers.lost,
        }


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Parts that look after the daemon's own process."""

    notifier: Notifier
    found: Found
    garbage: Garbage
    giving_back: GivingBack
    watchdog: Watchdog
    idle_end: IdleEnd
    metering: Metering


@dataclass(frozen=True, slots=True)
class Application:
    """All parts of one daemon, connected with each other.

    Args:
        closer: closes descriptors for the doors and the jobs.
        missing: returns what the daemon lacks on this machine, in words.
    """

    start: Start
    facts: Facts
    workers: Workers
    doors: Doors
    closer: BackgroundCloser
    watch: Watch
    governor: Governor
    callers: Callers
    intake: Intake
    upkeep: Upkeep
    missing: Lacking

    @property
    def engine(self) -> Engine:
        """The engine, which the other parts serve."""
        return self.workers.engine
