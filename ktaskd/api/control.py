"""The service Control: shows the daemon's state and steers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ktask.v1 import control_pb2 as pb
from ktask.v1.control_pb2_grpc import ControlServicer

from ktaskd.api.guard import Context, caller
from ktaskd.api.present import present_out
from ktaskd.api.state import Daemon
from ktaskd.api.status import status_out
from ktaskd.governor.governor import STATUS_DUTY
from ktaskd.model.allowance import Mode
from ktaskd.model.errors import NotAllowed, SpecInvalid
from ktaskd.model.identity import Identity

INTERVAL_S = 1.0
INTERVAL_MIN_S = 0.1
"""Default and shortest time between two checks of the status for a watcher."""

MODE_S_MAX = 366 * 86400
"""Longest duration of a mode that ends; without a duration it lasts forever."""

_MODES = {pb.Mode.Value(f"MODE_{mode.name}"): mode for mode in Mode}


@dataclass(frozen=True, slots=True)
class _Look:
    """A status, and the part of it whose changes are reported; `made_s` on the loop's clock."""

    made_s: float
    status: pb.Status
    essence: bytes


class ControlService(ControlServicer):
    """Everybody may read the state, admins may change it."""

    def __init__(self, daemon: Daemon) -> None:
        """Serve this daemon's state."""
        self._daemon = daemon
        self._looks: dict[int, _Look] = {}

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """Return the daemon's state, after a fresh look at the machine."""
        self._daemon.governor.refresh(STATUS_DUTY)
        await self._daemon.memory.refresh()
        return pb.GetStatusResponse(status=status_out(self._daemon, caller()))

    async def WatchStatus(
        self, request: pb.WatchStatusRequest, context: Context
    ) -> AsyncIterator[pb.WatchStatusResponse]:
        """Send the status at once, and again whenever more than a counter has changed.

        The stream holds one message at most: the next one is made when the client has read this one.
        """
        interval_s = INTERVAL_S
        if request.HasField("min_interval"):
            # Read field by field, since clients can also send an invalid Duration.
            asked_s = request.min_interval.seconds + request.min_interval.nanos / 1e9
            interval_s = max(asked_s, INTERVAL_MIN_S)
        await self._daemon.memory.refresh()
        look = self._look(caller(), fresh=True)
        while request.max_jobs:
            yield await present_out(self._daemon, caller(), look.status, request.max_jobs)
            await asyncio.sleep(interval_s)
            look = self._look(caller())
        while True:
            yield pb.WatchStatusResponse(status=look.status)
            sent = look.essence
            while look.essence == sent:
                await asyncio.sleep(interval_s)
                look = self._look(caller())

    def _look(self, who: Identity, *, fresh: bool = False) -> _Look:
        """Return the status as `who` may see it, made once for all watchers of that uid."""
        now = asyncio.get_running_loop().time()
        # An idle daemon that somebody watches has a reason to look at the machine.
        self._daemon.governor.refresh()
        known = self._looks.get(who.uid)
        if fresh or known is None or now - known.made_s >= INTERVAL_MIN_S:
            status = status_out(self._daemon, who)
            self._looks = {
                uid: look for uid, look in self._looks.items() if now - look.made_s < INTERVAL_MIN_S
            }
            known = self._looks[who.uid] = _Look(now, status, _essence(status))
        return known

    async def SetMode(self, request: pb.SetModeRequest, context: Context) -> pb.SetModeResponse:
        """Set who decides how many helpers may run."""
        self._check_admin("set the mode")
        mode, duration_s = _mode_in(request)
        self._daemon.governor.set_mode(mode, duration_s)
        return pb.SetModeResponse(status=status_out(self._daemon, caller()))

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        """Stop or resume the acceptance of jobs."""
        self._check_admin("drain the daemon")
        await self._daemon.set_draining(not request.resume)
        left = self._daemon.engine.registry.unended
        return pb.DrainResponse(draining=self._daemon.intake.draining, jobs_left=left)

    async def Reload(self, request: pb.ReloadRequest, context: Context) -> pb.ReloadResponse:
        """Read the configuration again."""
        self._check_admin("reload the configuration")
        reloaded = self._daemon.reload()
        return pb.ReloadResponse(applied=reloaded.applied, needs_restart=reloaded.needs_restart)

    def _check_admin(self, what: str) -> None:
        uid = caller().uid
        if uid not in self._daemon.admin_uids:
            raise NotAllowed(f"uid {uid} may not {what}: only uid 0 and the daemon's own uid may")


def _mode_in(request: pb.SetModeRequest) -> tuple[Mode, float | None]:
    """Return the requested mode and its seconds; raises SpecInvalid."""
    if request.mode not in _MODES:
        names = ", ".join(pb.Mode.Name(number) for number in _MODES)
        raise SpecInvalid(f"mode: got {request.mode}, wanted one of {names}", field="mode")
    mode = _MODES[request.mode]
    if not request.HasField("duration"):
        return mode, None
    # Read field by field, since clients can also send an invalid Duration.
    seconds, nanos = request.duration.seconds, request.duration.nanos
    if mode is Mode.AUTO:
        raise SpecInvalid("duration: got one for MODE_AUTO, which never ends; leave it out", field="duration")
    if not 0 <= nanos < 10**9 or not (0, 0) < (seconds, nanos) <= (MODE_S_MAX, 0):
        raise SpecInvalid(
            f"duration: got {seconds} s and {nanos} ns, wanted more than 0 and at most {MODE_S_MAX} s",
            field="duration",
        )
    return mode, seconds + nanos / 1e9


def _essence(status: pb.Status) -> bytes:
    """Encode the status without its counters and without other numbers that always change."""
    copy = pb.Status()
    copy.CopyFrom(status)
    del copy.counters[:]
    del copy.readings[:]
    for reason in copy.allowance.reasons:
        reason.value = ""
    for pool in copy.pools:
        for worker in pool.workers:
            worker.chunks = worker.private_bytes = 0
    return copy.SerializeToString(deterministic=True)
