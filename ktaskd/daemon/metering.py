"""The metrics of a running daemon: on a socket, in a file, on both, or, by default, nowhere.

If this machine lacks something that the configuration asks for, the daemon reports that as it reports
everything that it lacks, and jobs run without metrics.
"""

from __future__ import annotations

import grp
import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping

from ktaskd.daemon.settings import MetricsSettings
from ktaskd.host.root import HostRoot
from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.metrics import reading
from ktaskd.metrics.figures import Samples, values
from ktaskd.metrics.filing import Filing
from ktaskd.metrics.ledger import Ledger
from ktaskd.metrics.names import Names
from ktaskd.metrics.reading import Parts
from ktaskd.metrics.server import Fresh, Server
from ktaskd.metrics.socketfile import SocketFile
from ktaskd.metrics.waits import Waits

NO_LIBRARY = "the Python package prometheus-client is not installed; install ktaskd[metrics]"

log = logging.getLogger(__name__)


class Metering:
    """Keeps the accounts and hands them out. Does nothing at all if the configuration asks for nothing."""

    def __init__(
        self, settings: MetricsSettings, parts: Parts, root: HostRoot, admins: frozenset[int]
    ) -> None:
        """Count from now on. Needs the running loop."""
        self._settings, self._parts, self._admins = settings, parts, admins
        self._names = Names(root)
        self._ledger = Ledger()
        self._missing = ""
        self._socket: SocketFile | None = None
        self._server: Server | None = None
        self._filing: Filing | None = None
        self._waits: Waits | None = None
        if settings.socket or settings.textfile:
            self._missing = why_no_library()
            if not self._missing:
                self._count()

    def missing(self) -> Iterator[str]:
        """Return what the configuration asks for and the daemon does without, in words."""
        yield self._missing
        if self._filing is not None:
            yield self._filing.trouble

    def start(self) -> None:
        """Serve and write from now on."""
        if self._waits is None:
            return
        from ktaskd.metrics import exposition

        if self._settings.socket:
            self._serve(Fresh(lambda: exposition.openmetrics(self._values())), exposition.OPENMETRICS_TYPE)
        if self._settings.textfile:
            text: Callable[[], bytes] = lambda: exposition.prometheus(self._values())  # noqa: E731
            self._filing = Filing(self._settings.textfile, text, self._settings.interval_s)
            self._filing.start()

    async def close(self) -> None:
        """End all connections, and remove socket and file."""
        if self._waits is not None:
            self._waits.close()
        if self._server is not None:
            await self._server.close()
        if self._socket is not None:
            self._socket.close()
        if self._filing is not None:
            await self._filing.close()

    def _count(self) -> None:
        engine = self._parts.engine
        self._waits = Waits(lambda: engine.registry.running, view.waiting_reasons, self._ledger.note_waited)
        engine.on_launch = self._waits.note_job
        engine.on_ended = self._on_ended

    def _on_ended(self, job: Job, volume: int) -> None:
        self._ledger.note_ended(reading.ended(job, volume))

    def _serve(self, text: Callable[[], bytes], content_type: str) -> None:
        settings = self._settings
        try:
            mode, gid = socket_rights(settings)
            self._socket = SocketFile(settings.socket, mode=mode, gid=gid)
        except OSError as error:
            self._missing = f"metrics.socket: {settings.socket}: {error.strerror}"
            log.error('metrics_not_served error="%s"', self._missing)
            return
        self._server = Server(self._socket.sock, text, content_type, self._admins)
        self._server.start()

    def _values(self) -> Mapping[str, Samples]:
        self._names.renew()
        return values(self._ledger, reading.look(self._parts), self._names)


def why_no_library() -> str:
    """Return why no metrics can be written on this machine; "" if they can."""
    try:
        importlib.import_module("prometheus_client.core")
    except ImportError:
        return f"metrics: {NO_LIBRARY}"
    return ""


def socket_rights(settings: MetricsSettings) -> tuple[int, int]:
    """Return mode and group of the socket; group -1 = the daemon's.

    Raises:
        OSError: there is no such group, or this user may not give the socket to it.
    """
    gid = group_id(settings.socket_group) if settings.socket_group else -1
    if gid >= 0 and os.geteuid() != 0 and gid not in {os.getegid(), *os.getgroups()}:
        name = settings.socket_group
        words = f'the daemon is not in the group "{name}"; add SupplementaryGroups={name} to its service'
        raise PermissionError(1, words)
    if settings.socket_mode != "auto":
        return int(settings.socket_mode, 8), gid
    return (0o660 if gid >= 0 else 0o600), gid


def group_id(name: str) -> int:
    """Return the number of a group; raises OSError if there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise FileNotFoundError(2, f'there is no group "{name}" to own the socket; create it') from None
