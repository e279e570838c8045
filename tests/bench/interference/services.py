"""Services of a system bus, on a private one: the power profile and sleep.

    python -m tests.bench.interference.services ADDRESS

Owns the names of power-profiles-daemon and logind, prints "ready", and then executes
requests, one a line: `profile NAME`, `sleep yes`, `sleep no`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.interference.beside import REPOSITORY
from tests.bench.interference.programs import Unmeasured, needed

_PROFILES = "org.freedesktop.UPower.PowerProfiles"
_LOGIND = "org.freedesktop.login1"
_LOGIND_PATH = "/org/freedesktop/login1"
_UP_S = 20.0

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
  </policy>
</busconfig>
"""


class Services:
    """The other end: the process that owns the names."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Take over the process."""
        self._process = process

    def say(self, words: str) -> None:
        """Send a request; returns when the signal is on its way."""
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        self._hear(words)

    def _hear(self, what: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise Unmeasured(f"the bus's services have failed at {what!r} (pip install dbus-fast?)")


@contextmanager
def services(socket: Path) -> Iterator[Services]:
    """A private bus at `socket` with both services, ended at the end.

    Raises:
        Unmeasured: there is no dbus-daemon, or no dbus-fast.
    """
    program = needed("dbus-daemon", "dbus-daemon")
    socket.parent.mkdir(parents=True, exist_ok=True)
    config = socket.with_suffix(".conf")
    config.write_text(_CONFIG.format(socket=socket))
    words = [program, f"--config-file={config}", "--nofork", "--nopidfile", "--print-address=1"]
    with contextlib.ExitStack() as end:
        bus = end.enter_context(_ending(words, text=True))
        assert bus.stdout is not None
        if not bus.stdout.readline():
            raise Unmeasured("dbus-daemon: did not start")
        words = [sys.executable, "-m", "tests.bench.interference.services", f"unix:path={socket}"]
        made = Services(end.enter_context(_ending(words, stdin=subprocess.PIPE, text=True)))
        made._hear("start")
        yield made


@contextmanager
def _ending(words: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        words,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# -- in the process of the services -------------------------------------------------


async def _serve(address: str) -> None:
    from dbus_fast import Message, MessageType, Variant
    from dbus_fast.aio import MessageBus

    bus = await asyncio.wait_for(MessageBus(bus_address=address).connect(), _UP_S)
    says = {"ActiveProfile": Variant("s", "balanced"), "PerformanceDegraded": Variant("s", "")}
    path = "/" + _PROFILES.replace(".", "/")

    def answer(call: Any) -> Any:
        if call.message_type is not MessageType.METHOD_CALL:
            return None
        if call.path == path and call.member == "GetAll":
            return Message.new_method_return(call, "a{sv}", [says])
        if call.path == path and call.member == "Get":
            return Message.new_method_return(call, "v", [says[call.body[1]]])
        if call.path == _LOGIND_PATH and call.member == "GetAll":
            return Message.new_method_return(call, "a{sv}", [{"PreparingForSleep": Variant("b", False)}])
        return None

    bus.add_message_handler(answer)
    for name in (_PROFILES, _LOGIND):
        await bus.request_name(name)
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb")
    )
    async for line in reader:
        what, value = line.decode().split()
        if what == "profile":
            says["ActiveProfile"] = Variant("s", value)
            body = [_PROFILES, {"ActiveProfile": says["ActiveProfile"]}, []]
            signal = "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body
            await bus.send(Message.new_signal(path, *signal))
        else:
            signal_of_sleep = "org.freedesktop.login1.Manager", "PrepareForSleep", "b", [value == "yes"]
            await bus.send(Message.new_signal(_LOGIND_PATH, *signal_of_sleep))
        print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
