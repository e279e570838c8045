"""A private system bus, and services on it that report the values of a test."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import Message, MessageType, NameFlag, RequestNameReply, Variant
from dbus_fast.aio import MessageBus

from ktaskd.governor.bus import Service, bus_address

PATIENCE_S = 60.0

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <servicedir>{services}</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""


class PrivateBus:
    """A dbus-daemon with its socket in `directory`, which can be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "system_bus_socket"
        self.address = bus_address(self.socket)
        self.services = directory / "services"
        self.services.mkdir()
        self._config = directory / "bus.conf"
        self._config.write_text(_CONFIG.format(address=self.address, services=self.services))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when clients can connect."""
        words = [
            "dbus-daemon",
            f"--config-file={self._config}",
            "--nofork",
            "--nopidfile",
            "--print-address=1",
        ]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def offer(self, name: str, command: str) -> None:
        """Let the bus start a program when a client calls a name."""
        (self.services / f"{name}.service").write_text(f"[D-BUS Service]\nName={name}\nExec={command}\n")


@contextlib.contextmanager
def private_bus(directory: Path) -> Iterator[PrivateBus]:
    bus = PrivateBus(directory)
    bus.start()
    try:
        yield bus
    finally:
        bus.stop()


@dataclass
class FakeService:
    """A service that answers GetAll with `says`, and sends signals."""

    bus: MessageBus
    service: Service
    says: dict[str, Variant] = field(default_factory=dict)
    asked: int = 0

    async def own(self) -> None:
        """Take the name."""
        reply = await self.bus.request_name(self.service.name, NameFlag.DO_NOT_QUEUE)
        assert reply is RequestNameReply.PRIMARY_OWNER

    async def leave(self) -> None:
        """Release the name."""
        await self.bus.release_name(self.service.name)

    async def change(self, **values: Variant) -> None:
        """Change the values and announce it."""
        self.says |= values
        await self.signal(*self.service.signal, "sa{sv}as", [self.service.interface, values, []])

    async def signal(self, interface: str, member: str, signature: str, body: list[Any]) -> None:
        """Send a signal to all."""
        await self.bus.send(Message.new_signal(self.service.path, interface, member, signature, body))

    def answer(self, call: Message) -> Message | None:
        """Answer calls of GetAll."""
        if (
            call.message_type is MessageType.METHOD_CALL
            and call.member == "GetAll"
            and call.path == self.service.path
        ):
            self.asked += 1
            return Message.new_method_return(call, "a{sv}", [self.says])
        return None


@contextlib.asynccontextmanager
async def fake_service(address: str, service: Service, **says: Variant) -> AsyncIterator[FakeService]:
    """A service with a connection of its own that owns its name."""
    connection = await MessageBus(bus_address=address).connect()
    fake = FakeService(connection, service, says)
    connection.add_message_handler(fake.answer)
    try:
        await fake.own()
        yield fake
    finally:
        connection.disconnect()
        with contextlib.suppress(Exception):
            await connection.wait_for_disconnect()  # type: ignore[no-untyped-call]


class Changes:
    """Records changes, and waits for the one that a test needs."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._event.set()

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Wait for a change after which the condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted():
                self._event.clear()
                await self._event.wait()
