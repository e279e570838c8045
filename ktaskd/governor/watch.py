"""Everything that the governor sees, and what wakes it: events, and polling while work is queued.

An idle daemon listens to the kernel's events and to the bus, and has no timer and no trigger.
Power is read at once for a fresh observation. While work is queued it is read rarely, since
some batteries take tens of milliseconds to answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ktaskd.governor.bus import Bus, find_bus
from ktaskd.host.cgroups.cgroup import read_own_limit
from ktaskd.host.people.terminals import SOURCE as TERMINALS
from ktaskd.host.people.terminals import read_last_input
from ktaskd.host.power.supplies import has_supplies, read_power
from ktaskd.host.power.thermal import ThermalReader
from ktaskd.host.pressure.reading import SELF, PressureReader
from ktaskd.host.pressure.trigger import WINDOW_US, Triggers
from ktaskd.host.root import HostRoot
from ktaskd.host.sockets.uevent import open_uevents, read_uevents
from ktaskd.model.observation import Events, Observation, Power, Presence

log = logging.getLogger(__name__)

POWER_SUBSYSTEMS = frozenset({"power_supply", "typec"})
THERMAL_SUBSYSTEMS = frozenset({"thermal"})

POLL_S = 2.5
"""Longest time between two looks while work is queued. The governor looks at the end of each
window of 2 s anyway, which is how often PSI's own averages move; this is for when it does not."""

SLOW_S = 30.0
"""Seconds between two looks at power while work is queued and no event comes."""

SETTLE_S = 0.1
"""Seconds to wait after an event, since the supplies of one plug change one after the other."""

LAG_S = 1.5
"""Seconds by which a battery's status lags behind its plug. Source: TLP's own re-checks"""

GROUP_TRIGGERS_MAX = 16
"""Most cgroups of others that get a trigger; polling covers the rest."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Microseconds of stall within a window of 2 s that wake the governor before its next look."""

    cpu_us: int = WINDOW_US // 10
    io_us: int = WINDOW_US * 3 // 10
    memory_us: int = WINDOW_US // 10


class _Announced:
    """The kernel's events about one kind of sensor."""

    def __init__(self) -> None:
        self._count = 0
        self._until_s = float("-inf")

    def record(self, now_s: float) -> None:
        """Record an event; readings up to LAG_S later belong to it."""
        self._count += 1
        self._until_s = now_s + LAG_S + SETTLE_S

    def at(self, now_s: float) -> Events:
        """The events, as a reading at this time is given them."""
        return Events(self._count, now_s <= self._until_s)


class Watch:
    """Reads one machine, real or fake, and calls back when it should be read again."""

    def __init__(
        self,
        root: HostRoot,
        on_change: Callable[[], None],
        *,
        thresholds: Thresholds | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Listen to nothing yet. Needs the running loop.

        Args:
            on_change: called in the loop when `observe` may see something new;
                while `poll` is on also POLL_S after the last `observe`.
            environ: may have the address of the bus.
            wall: seconds since the epoch, like the times of input.
        """
        self._root = root
        self._on_change = on_change
        self._thresholds = thresholds or Thresholds()
        self._clock = clock
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._bus = Bus(lambda: find_bus(root, environ), self._on_bus)
        self._pressure = PressureReader(root)
        self._thermal = ThermalReader(root)
        self._power_events, self._thermal_events = _Announced(), _Announced()
        self._guess: bool | None = None
        self._uevents = open_uevents()
        self._triggers: Triggers | None = None
        self._poll_timer: asyncio.TimerHandle | None = None
        self._settle_timer: asyncio.TimerHandle | None = None
        self._settle_until = 0.0
        self._unreported = False
        self._power = Power()
        self._power_until = float("-inf")
        self._triggered: dict[Path, int] = {}

    @property
    def missing(self) -> list[str]:
        """Sources that cannot be listened to, and why, in words."""
        deaf = [] if self._uevents else ["no kernel events here: power is read only while jobs are queued"]
        return deaf + [text for text in (self._bus.missing,) if text]

    @property
    def timers(self) -> int:
        """How many timers run now; 0 on an idle machine."""
        return sum(timer is not None for timer in (self._poll_timer, self._settle_timer))

    @property
    def triggers(self) -> int:
        """How many PSI files the kernel watches for us now; 0 on an idle machine."""
        return len(self._triggers) if self._triggers is not None else 0

    def start(self) -> None:
        """Listen from now on."""
        if self._uevents is not None:
            self._loop.add_reader(self._uevents.fileno(), self._on_uevent)
        self._bus.refresh()

    def observe(self, own: Collection[int] = (), *, fresh: bool = True, user: bool = False) -> Observation:
        """Read what is true now.

        Args:
            own: our processes besides this one: keepers, pool hosts and workers.
            fresh: read everything; otherwise power may be SLOW_S old, unless an event came.
            user: find out if somebody is using the machine; from then on listen to the bus for it.
        """
        if self._poll_timer is not None or fresh:
            self._bus.refresh()
        if fresh or self._clock() >= self._power_until:
            self._read_power()
        now_s = self._clock()
        pressure = self._pressure.read(now_s, own)
        if self._poll_timer is not None:
            self._poll_timer.cancel()
            self._poll_timer = self._loop.call_later(POLL_S, self._on_poll)
            self._set_triggers(self._wanted_triggers())
        reported = self._bus.facts
        return Observation(
            power=replace(
                self._power,
                profile=reported.profile,
                degraded=reported.degraded,
                events=self._power_events.at(now_s),
            ),
            thermal=replace(self._thermal.read(now_s), events=self._thermal_events.at(now_s)),
            pressure=pressure,
            own=read_own_limit(self._root, [SELF, *own]),
            sleeping=reported.sleeping,
            user=self._read_user() if user else Presence(),
        )

    def poll(self, on: bool) -> None:
        """Poll while work is queued: look POLL_S after the last look, and set triggers at the next one.

        From the next `observe` on the kernel then reports pressure as well.
        """
        if on and self._poll_timer is None:
            self._poll_timer = self._loop.call_later(POLL_S, self._on_poll)
        elif not on and self._poll_timer is not None:
            self._poll_timer.cancel()
            self._poll_timer = None
            self._set_triggers({})

    async def close(self) -> None:
        """Stop listening."""
        self.poll(False)
        if self._settle_timer is not None:
            self._settle_timer.cancel()
            self._settle_timer = None
        if self._uevents is not None:
            self._loop.remove_reader(self._uevents.fileno())
            self._uevents.close()
            self._uevents = None
        await self._bus.close()

    # -- power ----------------------------------------------------------------------

    def _read_power(self) -> bool:
        """Read power; whether it has changed."""
        before = self._power
        power = read_power(self._root)
        guess = self._bus.facts.on_battery
        if guess is not None and not has_supplies(self._root):
            power = replace(power, on_battery=guess)  # a UPS on a serial port, which only UPower knows
        self._power = power
        self._power_until = self._clock() + SLOW_S
        return power != before

    def _on_uevent(self) -> None:
        assert self._uevents is not None
        heard = read_uevents(self._uevents)
        if not heard.lost and not heard.events:
            return
        # A fake machine has no events of its own, so any event may mean that its files have changed.
        everything = heard.lost or self._root != HostRoot()
        subsystems = {event.subsystem for event in heard.events}
        now_s = self._clock()
        for announced, names in (
            (self._power_events, POWER_SUBSYSTEMS),
            (self._thermal_events, THERMAL_SUBSYSTEMS),
        ):
            if everything or names & subsystems:
                announced.record(now_s)
        if everything or (POWER_SUBSYSTEMS | THERMAL_SUBSYSTEMS) & subsystems:
            self._settle_until = self._loop.time() + LAG_S
            self._unreported = True
            if self._settle_timer is None:
                self._settle_timer = self._loop.call_later(SETTLE_S, self._settle)

    def _settle(self) -> None:
        """Read power until it can no longer lag behind the event; report the event and each change."""
        self._settle_timer = None
        if self._loop.time() < self._settle_until:
            self._settle_timer = self._loop.call_later(SETTLE_S, self._settle)
        if self._read_power() or self._unreported:
            self._unreported = False
            self._on_change()

    def _on_bus(self) -> None:
        self._power_until = float("-inf")  # a change at UPower is a hint to read power again
        if self._bus.facts.on_battery != self._guess:
            self._guess = self._bus.facts.on_battery
            if not has_supplies(self._root):
                self._power_events.record(self._clock())  # a message is not a measurement
        self._on_change()

    # -- use of the machine ---------------------------------------------------------

    def _read_user(self) -> Presence:
        """When the machine was last used: from logind, or else from the terminals."""
        self._bus.want_idle_hint()
        now_s = self._wall()
        since_s, source = self._bus.facts.idle_since_s, "logind"
        if since_s is None:
            since_s, source = read_last_input(self._root, now_s), TERMINALS
        if since_s is None:
            return Presence()
        return Presence(max(0.0, now_s - since_s) if since_s else 0.0, source)

    # -- pressure ---------------------------------------------------------------------

    def _on_poll(self) -> None:
        self._poll_timer = self._loop.call_later(POLL_S, self._on_poll)
        self._on_change()

    def _wanted_triggers(self) -> dict[Path, int]:
        """PSI files and the stall that wakes us. Read again each time, since cgroups come and go."""
        pressure, limits = self._root.proc / "pressure", self._thresholds
        groups = sorted(self._pressure.group_files)[:GROUP_TRIGGERS_MAX]
        return {
            pressure / "io": limits.io_us,
            pressure / "memory": limits.memory_us,
            **dict.fromkeys(groups, limits.cpu_us),
        }

    def _set_triggers(self, wanted: dict[Path, int]) -> None:
        """Replace all triggers by these, as far as the kernel allows; polling covers the rest."""
        if wanted == self._triggered:
            return
        self._triggered = wanted
        if self._triggers is not None:
            self._loop.remove_reader(self._triggers.fileno())
            self._triggers.close()
            self._triggers = None
        if wanted:
            self._triggers = Triggers()
            for path, some_us in wanted.items():
                self._triggers.add(path, some_us)
            self._loop.add_reader(self._triggers.fileno(), self._on_trigger)

    def _on_trigger(self) -> None:
        if self._triggers is not None:
            self._triggers.read()
            self._on_change()
