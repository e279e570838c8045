"""The configuration as typed sections, with all defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from ktaskd.governor.settings import GovernorSettings
from ktaskd.intake.disk_limits import DiskLimits
from ktaskd.jobs.registry import JobLimits


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Rights and limits of clients that connect.

    Args:
        mode: of both sockets, octal digits; "auto" = 0660 if the daemon is root
            and the group exists, else 0600.
        group: that owns the sockets where mode lets it in.
        connections, connections_per_uid: gRPC connections at one time.
        handoffs, handoffs_per_uid: connections to the handoff socket at one time.
        streams: calls at one time on one gRPC connection.
        calls_per_uid: calls of one uid at one time, on all its connections.
        handles_per_uid: handed over descriptors at one time.
        watch_stall_s: a stream whose reader takes nothing for so long is cut;
            0 = never.
    """

    mode: str = "auto"
    group: str = "ktask"
    connections: int = 2000
    connections_per_uid: int = 500
    handoffs: int = 2000
    handoffs_per_uid: int = 500
    streams: int = 1000
    calls_per_uid: int = 1024
    handles_per_uid: int = 4096
    watch_stall_s: float = 30.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How many workers there are, and who they are.

    Args:
        user: that workers become if the daemon is root; where there is no such
            user, or "", only uid 0 may run jobs.
        helpers_per_node: most helpers of one node; 0 = one for each CPU.
        warm: helpers of each node, and leads, that are kept while there is
            nothing to do; 0 = none, so that the next job waits for a start.
        idle_timeout_s: time without work after which a worker beyond the warm
            ones ends; 0 = it stays.
        helpers_socket: where `ktaskd --pool-hosts` listens, which then starts the
            helpers' pool hosts; "" = the daemon does.
        idle_group: "auto" = helpers get a cgroup with cpu.idle where one may be
            made; "never" = no cgroup is made for them.
        leads: most leads that use a CPU at one time; 0 = one for each CPU.
        leads_per_uid: the same for one uid; 0 = as many as there are.
        cancel_grace_s: time for a worker to give back its chunk before it is killed.
        fence_s: time for a killed worker to be seen dead.
        hang_cpu_s: CPU time that a worker may use without getting on, before it
            is killed; 0 = no limit.
        starvation_s: a job that nobody waits for gets a lead when it has made no
            progress for so long; 0 = never.
    """

    user: str = "ktaskd"
    helpers_per_node: int = 0
    warm: int = 1
    idle_timeout_s: float = 60.0
    helpers_socket: str = ""
    idle_group: str = "auto"
    leads: int = 0
    leads_per_uid: int = 0
    cancel_grace_s: float = 5.0
    fence_s: float = 10.0
    hang_cpu_s: float = 60.0
    starvation_s: float = 60.0


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """Functions that are not built in.

    Args:
        dir: whose *.toml declare native functions; "" = none.
    """

    dir: str = "/etc/ktaskd/functions.d"


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The daemon itself.

    Args:
        idle_exit_s: end after so long without a connection and a job, but not while a mode is set or
            the result of a detached job is kept; 0 = never.
        stop_s: time for jobs to be stopped and undone when the daemon ends.
        log_level: "debug", "info", "warning" or "error".
    """

    idle_exit_s: float = 0.0
    stop_s: float = 20.0
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration; each section is a frozen dataclass."""

    sockets: SocketSettings = field(default_factory=SocketSettings)
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    jobs: JobLimits = field(default_factory=JobLimits)
    disks: DiskLimits = field(default_factory=DiskLimits)
    governor: GovernorSettings = field(default_factory=GovernorSettings)
    functions: FunctionSettings = field(default_factory=FunctionSettings)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)


def flatten(config: Config) -> dict[str, object]:
    """Every value by its path, as in "jobs.keep_s"."""
    return {
        f"{section}.{key}": value
        for section, values in dataclasses.asdict(config).items()
        for key, value in values.items()
    }
