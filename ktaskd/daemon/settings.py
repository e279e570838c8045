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
            and the group exists, otherwise 0600.
        group: owner of the sockets if the mode gives it access.
        connections, connections_per_uid: most gRPC connections at the same time.
        handoffs, handoffs_per_uid: most connections to the handoff socket at the same time.
        streams: most calls at the same time on one gRPC connection.
        calls_per_uid: most calls of one uid at the same time, on all its connections.
        handles_per_uid: most handed over descriptors at the same time.
        watch_stall_s: a stream that its reader does not read for this long is ended;
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
    """How many workers there are, and which user they run as.

    Args:
        user: that workers become if the daemon is root; if there is no such
            user, or with "", only uid 0 may run jobs.
        helpers_per_node: most helpers of one node; 0 = one for each CPU.
        warm: helpers of each node, and leads, that are kept while there is
            no work; 0 = none, so the next job waits for the start of a worker.
        idle_timeout_s: time without work after which workers beyond the warm
            ones end; 0 = they stay.
        helpers_socket: socket of `ktaskd --pool-hosts`, which then starts the
            helpers' pool hosts; "" = the daemon starts them.
        idle_group: "auto" = helpers get a cgroup with cpu.idle if one may be
            made; "never" = no cgroup is made for them.
        leads: most leads that use a CPU at the same time; 0 = one for each CPU.
        leads_per_uid: the same for one uid; 0 = all leads.
        cancel_grace_s: time for a worker to give back its chunk before it is killed.
        fence_s: longest wait for the death of a killed worker.
        hang_cpu_s: CPU time that a worker may use without progress before it
            is killed; 0 = no limit.
        starvation_s: time without progress after which a job that nobody waits for
            gets a lead; 0 = never.
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
        dir: directory whose *.toml files declare native functions; "" = none.
    """

    dir: str = "/etc/ktaskd/functions.d"


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The daemon itself.

    Args:
        idle_exit_s: end after this time without a connection and a job, but not while a mode is set or
            the result of a detached job is kept; 0 = never.
        stop_s: time in which jobs are stopped and undone when the daemon ends.
        log_level: "debug", "info", "warning" or "error".
    """

    idle_exit_s: float = 0.0
    stop_s: float = 20.0
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Figures for a monitoring system.

    Args:
        socket: path of a unix socket that answers GET /metrics; "" = none.
        socket_mode: octal digits; "auto" = 0660 with a group, otherwise 0600.
        socket_group: owner of the socket; "" = the daemon's own.
        textfile: file for node_exporter's textfile collector, *.prom; "" = none.
        interval_s: seconds between two writes of the file.
    """

    socket: str = ""
    socket_mode: str = "auto"
    socket_group: str = ""
    textfile: str = ""
    interval_s: float = 15.0


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
    metrics: MetricsSettings = field(default_factory=MetricsSettings)


def flatten(config: Config) -> dict[str, object]:
    """Return every value by its path, as in "jobs.keep_s"."""
    return {
        f"{section}.{key}": value
        for section, values in dataclasses.asdict(config).items()
        for key, value in values.items()
    }
