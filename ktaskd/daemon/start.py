"""The arguments of a daemon's life."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ktaskd.daemon.config import Config
from ktaskd.door.sockets.listener import Listeners
from ktaskd.door.sockets.rundir import RuntimeDir
from ktaskd.host.root import HostRoot


@dataclass(frozen=True, slots=True)
class Start:
    """The decisions of the command line.

    Args:
        load: reads the configuration again; raises ConfigError.
        host_root: the machine that the governor looks at. Processes, callers and
            placement are always those of the real one.
        own_cgroup_fd: descriptor of cgroup.procs of our own group; -1 = none was passed.
    """

    config: Config
    load: Callable[[], Config]
    runtime: RuntimeDir
    listeners: Listeners
    selftest: bool
    host_root: HostRoot = field(default_factory=HostRoot)
    own_cgroup_fd: int = -1
