"""Read from the system bus the power profile, and whether the machine is about to sleep.

It only listens and reads: it starts no service, changes no profile and delays no sleep.
Any client of the bus can send us a signal, so only signals from a name's owner count.

Source: D-Bus specification; net.hadess.PowerProfiles and org.freedesktop.UPower as
documented by their projects; org.freedesktop.login1(5)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktaskd.host.root import HostRoot

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

log = logging.getLogger(__name__)

SYSTEM_SOCKET = "/run/dbus/system_bus_socket"
ANSWER_S = 5.0
"""Seconds after which a bus or a service counts as not answering."""

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
"""Seconds between two attempts to connect, which grow. Attempts are made only from `refresh`."""

_BUS = "org.freedesktop.DBus"
_OBJECT_OF_BUS = (_BUS, "/org/freedesktop/DBus")
_PROPERTIES = "org.freedesktop.DBus.Properties"


@dataclass(frozen=True, slots=True)
class Service:
    """One object that is read and listened to.

    Args:
        signal: interface and member of the signal that announces a change.
    """

    name: str
    path: str
    interface: str
    signal: tuple[str, str] = (_PROPERTIES, "PropertiesChanged")


def _named(name: str) -> Service:
    """A service whose path and interface have its own name."""
    return Service(name, "/" + name.replace(".", "/"), name)


PROFILES = _named("org.freedesktop.UPower.PowerProfiles")
OLD_PROFILES = _named("net.hadess.PowerProfiles")
"""The name before power-profiles-daemon 0.20; newer versions have it as well."""
UPOWER = _named("org.freedesktop.UPower")
LOGIND = Service(
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    ("org.freedesktop.login1.Manager", "PrepareForSleep"),
)
IDLE_HINT = Service(LOGIND.name, LOGIND.path, LOGIND.interface)
"""logind's properties, which include the hint that no session is in use."""
SERVICES = (PROFILES, OLD_PROFILES, UPOWER, LOGIND)
"""Services that are listened to from the start; IDLE_HINT only after `want_idle_hint`."""


@dataclass(frozen=True, slots=True)
class BusFacts:
    """The reports of the services on the bus; a default if they report nothing.

    Args:
        profile, degraded: as in `Power`.
        on_battery: what UPower reports; None without UPower.
        sleeping: the machine is about to sleep, or has not woken up yet.
        idle_since_s: since when no session is in use, in seconds since the epoch; 0 = one is;
            None = logind does not report it, or was not asked.
    """

    profile: str = ""
    degraded: str = ""
    on_battery: bool | None = None
    sleeping: bool = False
    idle_since_s: float | None = None


def find_bus(root: HostRoot, environ: Mapping[str, str]) -> str:
    """Address of the system bus: $DBUS_SYSTEM_BUS_ADDRESS, else the usual socket if it exists; else ""."""
    given = environ.get("DBUS_SYSTEM_BUS_ADDRESS", "")
    socket = root.at(SYSTEM_SOCKET)
    return given or (bus_address(socket) if os.path.exists(socket) else "")


def bus_address(socket: Path) -> str:
    """The address of a bus with this socket."""
    return "unix:path=" + urllib.parse.quote(str(socket)).replace("~", "%7E")


class Bus:
    """A connection to the system bus that `refresh` makes again when it was lost.

    Attributes:
        missing: what is missing and how to get it, in words; "" if nothing is.
    """

    def __init__(self, find: Callable[[], str], on_change: Callable[[], None]) -> None:
        """Connect to nothing yet.

        Args:
            find: returns the address of the bus; "" = there is none now.
            on_change: called in the loop when `facts` have changed.
        """
        self.missing = ""
        self._find = find
        self._on_change = on_change
        self._facts = BusFacts()
        self._reported: dict[Service, Mapping[str, Any]] = {}
        self._owners: dict[Service, str] = {}
        self._wanted = set(SERVICES)
        self._stale: set[Service] = set()
        self._listened: set[Service] = set()
        self._wake = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._pause_s = RETRY_FIRST_S
        self._next_try_s = 0.0
        self._closed = False
        self._lost = str(None)

    @property
    def facts(self) -> BusFacts:
        """The latest reports."""
        return self._facts

    @property
    def active(self) -> bool:
        """Whether it is connected, or about to be."""
        return self._life is not None

    def refresh(self) -> None:
        """Connect if there is no connection and the last attempt is long enough ago. Returns at once."""
        now = time.monotonic()
        if self._closed or self._life is not None or now < self._next_try_s:
            return
        address = self._find()
        if not address:
            self.missing = ""  # on a machine without a bus there is nothing to listen to
        else:
            self._next_try_s = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, RETRY_MAX_S)
            self._life = asyncio.ensure_future(self._live(address))
            self._life.add_done_callback(self._on_end)

    def want_idle_hint(self) -> None:
        """Listen to logind's idle hint as well, from now on."""
        if IDLE_HINT not in self._wanted:
            self._wanted.add(IDLE_HINT)
            self._stale.add(IDLE_HINT)
            self._wake.set()

    async def close(self) -> None:
        """Disconnect for good."""
        self._closed = True
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])

    def _on_end(self, life: asyncio.Task[None]) -> None:
        self._life = None
        self._reported.clear()
        self._owners.clear()
        error = None if life.cancelled() else life.exception()
        if str(error) != self._lost:
            self._lost = str(error)
            log.info('bus_lost error="%s"', f"{type(error).__name__}: {error}")
        if error is not None:
            why = f"{error}" or type(error).__name__
            self.missing = (
                f"system bus: no connection: {why}; power profiles and sleep are not seen until it is back"
            )
        if not self._closed:
            self._publish()

    # -- one connection ---------------------------------------------------------

    async def _live(self, address: str) -> None:
        """Connect, listen, and read what changed, until the connection ends or we are cancelled."""
        try:
            from dbus_fast.aio import MessageBus
        except ImportError:
            self.missing = "dbus-fast is not installed: install ktaskd[dbus] for power profiles and sleep"
            return
        bus = MessageBus(bus_address=address, auth_timeout=ANSWER_S)
        await asyncio.wait_for(bus.connect(), ANSWER_S)
        gone = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        gone.add_done_callback(lambda _: self._wake.set())
        try:
            self.missing = ""
            bus.add_message_handler(self._on_message)
            self._listened.clear()
            self._stale = set(self._wanted)
            for service in SERVICES:
                await self._listen(bus, service)
            self._pause_s = RETRY_FIRST_S
            while not gone.done():
                self._wake.clear()
                while self._stale:
                    await self._read(bus, self._stale.pop())
                self._publish()
                await self._wake.wait()
        finally:
            bus.disconnect()
            with contextlib.suppress(Exception):  # the reason for the disconnect is not needed
                await gone

    async def _listen(self, bus: MessageBus, service: Service) -> None:
        """Subscribe to the signal of a service and to changes of the owner of its name."""
        interface, member = service.signal
        rules = (
            f"type='signal',sender='{service.name}',path='{service.path}'"
            f",interface='{interface}',member='{member}'",
            f"type='signal',sender='{_BUS}',interface='{_BUS}',member='NameOwnerChanged'"
            f",arg0='{service.name}'",
        )
        for rule in rules:
            await self._call(bus, _OBJECT_OF_BUS, _BUS, "AddMatch", rule)
        self._listened.add(service)

    async def _read(self, bus: MessageBus, service: Service) -> None:
        """Read a service. The owner is called by its unique name, so that no service is started."""
        if service not in self._listened:
            await self._listen(bus, service)
        self._owners.pop(service, None)
        self._reported.pop(service, None)
        answer = await self._call(bus, _OBJECT_OF_BUS, _BUS, "GetNameOwner", service.name)
        if not answer:
            return
        owner = str(answer[0])
        self._owners[service] = owner
        answer = await self._call(bus, (owner, service.path), _PROPERTIES, "GetAll", service.interface)
        if answer and isinstance(answer[0], dict) and self._owners.get(service) == owner:
            values = {name: getattr(value, "value", None) for name, value in answer[0].items()}
            self._reported[service] = {**values, **self._reported.get(service, {})}

    async def _call(
        self, bus: MessageBus, target: tuple[str, str], interface: str, member: str, argument: str
    ) -> list[Any]:
        """Call a method that takes one string.

        Args:
            target: name and path of the object.
        Returns:
            What the method returned; empty if it failed or did not answer in time.
        """
        from dbus_fast import Message, MessageFlag, MessageType

        call = Message(
            destination=target[0],
            path=target[1],
            interface=interface,
            member=member,
            signature="s",
            body=[argument],
            flags=MessageFlag.NO_AUTOSTART,
        )
        try:
            reply = await asyncio.wait_for(bus.call(call), ANSWER_S)
        except TimeoutError:
            return []
        # There is no reply if the bus goes away while we wait.
        answered = reply is not None and reply.message_type is MessageType.METHOD_RETURN
        return list(reply.body) if answered else []

    def _on_message(self, message: Message) -> None:
        """Handle a signal: from the bus about the owner of a name, or from an owner about itself."""
        if message.sender == _BUS and message.member == "NameOwnerChanged":
            changed = {service for service in self._wanted if message.body[:1] == [service.name]}
        else:
            signal = (message.interface, message.member)
            senders = {service for service, owner in self._owners.items() if owner == message.sender}
            changed = {service for service in senders if service.signal == signal}
        if LOGIND in changed and message.member == "PrepareForSleep":
            # The property may still have the old value, since the signal is sent first.
            self._reported[LOGIND] = {"PreparingForSleep": message.body[:1] == [True]}
            self._publish()
            return
        if changed:
            self._stale |= changed
            self._wake.set()

    # -- facts --------------------------------------------------------------------

    def _publish(self) -> None:
        facts = _combine(self._reported)
        if facts != self._facts:
            self._facts = facts
            self._on_change()


def _combine(reported: Mapping[Service, Mapping[str, Any]]) -> BusFacts:
    """The facts in what the services report; a value of a wrong type counts as not reported."""
    profiles = reported.get(PROFILES) or reported.get(OLD_PROFILES) or {}
    on_battery = reported.get(UPOWER, {}).get("OnBattery")
    return BusFacts(
        profile=_text(profiles.get("ActiveProfile")),
        degraded=_text(profiles.get("PerformanceDegraded")),
        on_battery=on_battery if isinstance(on_battery, bool) else None,
        sleeping=reported.get(LOGIND, {}).get("PreparingForSleep") is True,
        idle_since_s=_idle_since_s(reported.get(IDLE_HINT, {})),
    )


def _idle_since_s(logind: Mapping[str, Any]) -> float | None:
    """IdleSinceHint is in microseconds since the epoch."""
    hint, since_us = logind.get("IdleHint"), logind.get("IdleSinceHint")
    if not isinstance(hint, bool):
        return None
    if not hint:
        return 0.0
    return since_us / 1e6 if isinstance(since_us, int) and since_us > 0 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
