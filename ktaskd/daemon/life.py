"""The daemon's life: its parts are started in order, run, and are ended in order."""

from __future__ import annotations

import asyncio
import logging
import signal

from ktaskd import __version__
from ktaskd.api.state import Reloaded
from ktaskd.daemon.application import Application
from ktaskd.daemon.build import build, build_server
from ktaskd.daemon.config import Config, ConfigError
from ktaskd.daemon.logs import write_late
from ktaskd.daemon.reloading import reloaded
from ktaskd.daemon.start import Start
from ktaskd.daemon.stopping import end_jobs
from ktaskd.daemon.watchdog import describe
from ktaskd.jobs.machine import IllegalTransition
from ktaskd.model.allowance import Allowance
from ktaskd.model.errors import ReloadFailed

log = logging.getLogger(__name__)

CLOSE_S = 3.0
"""Time at the end for the pools, the doors and the calls that still run."""

INTERNAL_ERROR, LOST = 70, 1
"""Exit statuses after a broken invariant (EX_SOFTWARE) and after the loss of the runtime directory."""


class Life:
    """One daemon from its start to its end. Implements `Lifecycle` for its parts."""

    def __init__(self, start: Start) -> None:
        """Build all parts; nothing runs yet. Needs the running loop.

        Raises:
            ListenError: gRPC's private socket cannot be made.
        """
        self._config = start.config
        self._stop = asyncio.Event()
        self._failed = False
        self._app: Application = build(start, self)
        self._server = build_server(self._app, self)
        self._engine, self._doors, self._upkeep = self._app.engine, self._app.doors, self._app.upkeep

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    @property
    def stopping(self) -> bool:
        """Whether the daemon ends."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the daemon."""
        self._stop.set()

    # -- start ------------------------------------------------------------------

    async def run(self) -> int:
        """Live until a signal, a fault or idleness ends it; return the exit status."""
        self._listen_to_signals()
        self._app.workers.pools.start()
        await self._wait_ready()
        if not self.stopping:
            await self._open()
        await self._stop.wait()
        await self._close()
        return INTERNAL_ERROR if self._failed else LOST if self._upkeep.found.lost else 0

    async def _wait_ready(self) -> None:
        """Wait for the first worker: READY means that a job can run."""
        ready = self._app.workers.events.ready
        waits = [asyncio.ensure_future(ready.wait()), asyncio.ensure_future(self._stop.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _open(self) -> None:
        start, topology = self._app.start, self._app.facts.topology
        self._upkeep.found.start()
        self._app.watch.start()
        self._app.governor.refresh()
        await self._server.start()
        await self._doors.relay.start()
        await self._doors.handoff.start()
        await self._server.set_serving(True)
        self._upkeep.metering.start()
        cpus = len(topology.cpus)
        self._upkeep.notifier.send("READY=1", f"STATUS=ready, {cpus} CPUs on {len(topology.nodes)} nodes")
        log.info("ready dir=%s version=%s cpus=%d", start.runtime.path, __version__, cpus)
        for text in self._app.missing():
            log.info('lacking what="%s"', text)
        write_late()
        self._upkeep.watchdog.start()
        self._upkeep.garbage.start()
        self.on_change()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_bug)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    # -- while it runs ------------------------------------------------------------

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """End the daemon after a broken invariant, since its state cannot be trusted any more.

        An assertion that fails in a call's handler because of what a caller sent does
        not end it: nothing was changed, and a caller could repeat that forever.
        """
        loop.default_exception_handler(context)
        fatal = (IllegalTransition,) if "handler" in context else (IllegalTransition, AssertionError)
        # A callback that broke off half-way has left a worker or a job half changed.
        if "handle" in context or isinstance(context.get("exception"), fatal):
            self._failed = True
            self._stop.set()

    def _on_hangup(self) -> None:
        self._upkeep.notifier.send_reloading()
        try:
            self.reload()
        except ReloadFailed as error:
            log.error('reload_failed error="%s"', error.message)
        self._upkeep.notifier.send("READY=1")

    def reload(self) -> Reloaded:
        """Read the configuration file again; raises ReloadFailed and then changes nothing."""
        try:
            config = self._app.start.load()
        except ConfigError as error:
            raise ReloadFailed(str(error)) from error
        self._config, changes = reloaded(self._config, config)
        self._engine.registry.limits = config.jobs
        logging.getLogger().setLevel(config.daemon.log_level.upper())
        self._app.governor.configure(config.governor)
        log.info("reloaded changed=%s", ",".join((*changes.applied, *changes.needs_restart)))
        return changes

    async def set_draining(self, draining: bool) -> None:
        """Stop or resume the acceptance of jobs. A daemon that is ending does not resume it."""
        if self.stopping:
            return
        if self._app.intake.draining != draining:
            log.info("draining on=%s jobs_left=%d", draining, self._engine.registry.unended)
            self._app.intake.draining = draining
            await self._server.set_serving(not draining)

    def on_allowance(self, allowance: Allowance) -> None:
        """Pass a decision of the governor on to the engine."""
        self._engine.set_allowance(allowance)
        self._upkeep.notifier.send(f"STATUS={self.status()}")

    def status(self) -> str:
        """Describe the daemon's state for the service manager."""
        words = describe(self._engine.dispatch, self._engine.registry.unended)
        return f"stopping: {words}" if self.stopping else words

    def on_idle(self) -> None:
        """Tidy up some time after the end of the last job, if no other job comes."""
        self._app.governor.queued(False)
        self._upkeep.garbage.look_through_soon(
            lambda: self._engine.registry.unended or self._doors.held_bytes()
        )
        self.on_change()

    def on_change(self) -> None:
        """Act on a connection that came or went: an idle daemon may end, and one without a directory ends."""
        self._upkeep.giving_back.note()
        unended = self._engine.registry.unended
        busy = self._doors.relay.connections or self._doors.handoff.connections or unended
        if self._upkeep.found.lost and not unended:
            self._stop.set()
        self._upkeep.idle_end.idle(0.0 if busy else self._config.daemon.idle_exit_s)

    def on_lost(self) -> None:
        """Report that no client can connect any more; the daemon ends after its last job."""
        self._upkeep.notifier.send(
            f"STATUS={self._upkeep.found.lost}: no client can connect; ends when its jobs have ended"
        )
        self.on_change()

    # -- the end ------------------------------------------------------------------

    async def _close(self) -> None:
        log.info("stopping jobs_left=%d", self._engine.registry.unended)
        self._upkeep.found.close()
        self._upkeep.notifier.send("STOPPING=1", "STATUS=stopping: jobs are stopped and undone")
        self._app.intake.draining = True
        await self._server.set_serving(False)
        await end_jobs(self._engine, self._config.daemon.stop_s)
        self._upkeep.giving_back.close()
        self._upkeep.idle_end.idle(0.0)
        self._upkeep.garbage.stop()
        await self._upkeep.metering.close()
        await self._close_doors()
        self._app.governor.close()
        await self._app.watch.close()
        self._engine.close()
        self._app.callers.close()
        results = await self._close_processes()
        self._upkeep.watchdog.close()  # not earlier: jobs may take stop_s to be undone
        self._app.closer.shutdown()
        self._app.workers.raiser.close()
        if self._app.workers.group is not None:
            self._app.workers.group.close()
        for result in results:
            if isinstance(result, BaseException):
                log.error('close_failed error="%s"', repr(result))

    async def _close_doors(self) -> None:
        await self._server.close(CLOSE_S / 3)
        await self._doors.relay.close(CLOSE_S / 3)
        await self._doors.handoff.close()

    async def _close_processes(self) -> list[BaseException | None]:
        """End workers and keepers at the same time; return what went wrong."""
        pools = [pool.close(CLOSE_S) for pool in self._app.workers.pools]
        return await asyncio.gather(*pools, self._doors.keepers.close(), return_exceptions=True)


async def live(start: Start) -> int:
    """Build a daemon and run it to its end; return the exit status."""
    return await Life(start).run()
