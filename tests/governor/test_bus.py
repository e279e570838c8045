"""The bus, on a real private one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Message, Variant
from dbus_fast.aio import MessageBus

from ktaskd.governor.bus import (
    IDLE_HINT,
    LOGIND,
    OLD_PROFILES,
    PROFILES,
    SYSTEM_SOCKET,
    UPOWER,
    Bus,
    BusFacts,
    Service,
    bus_address,
    find_bus,
)
from ktaskd.host.root import HostRoot
from tests.governor.bus import Changes, PrivateBus, fake_service, private_bus

pytestmark = pytest.mark.dbus_daemon

SAVER = {"ActiveProfile": Variant("s", "power-saver"), "PerformanceDegraded": Variant("s", "")}


@pytest.fixture
def private(tmp_path: Path) -> Iterator[PrivateBus]:
    with private_bus(tmp_path) as bus:
        yield bus


@asynccontextmanager
async def listening(private: PrivateBus) -> AsyncIterator[tuple[Bus, Changes]]:
    changes = Changes()
    bus = Bus(lambda: private.address if private.socket.exists() else "", changes)
    bus.refresh()
    try:
        yield bus, changes
    finally:
        await bus.close()


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


async def call_bus(connection: MessageBus, member: str, *names: str) -> list[object]:
    reply = await connection.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member=member,
            signature="s" * len(names),
            body=list(names),
        )
    )
    return list(reply.body)


def test_facts_when_services_are_there_then_what_they_say(private: PrivateBus) -> None:
    async def test() -> None:
        sleeping = {"PreparingForSleep": Variant("b", True)}
        async with (
            fake_service(private.address, PROFILES, **SAVER),
            fake_service(private.address, UPOWER, OnBattery=Variant("b", True)),
            fake_service(private.address, LOGIND, **sleeping),
            listening(private) as (bus, changes),
        ):
            await changes.until(lambda: bus.facts == BusFacts("power-saver", "", True, True))

    run(test)


@pytest.mark.parametrize("service", [PROFILES, OLD_PROFILES])
def test_facts_when_a_service_comes_changes_and_goes_then_they_follow(
    private: PrivateBus, service: Service
) -> None:
    async def test() -> None:
        async with (
            listening(private) as (bus, changes),
            fake_service(private.address, service, **SAVER) as fake,
        ):
            await changes.until(lambda: bus.facts.profile == "power-saver")
            await fake.change(
                ActiveProfile=Variant("s", "performance"), PerformanceDegraded=Variant("s", "lap-detected")
            )
            await changes.until(lambda: bus.facts == BusFacts("performance", "lap-detected"))
            await fake.leave()
            await changes.until(lambda: bus.facts == BusFacts())

    run(test)


def test_facts_when_values_are_of_another_type_then_unsaid(private: PrivateBus) -> None:
    async def test() -> None:
        odd = {"ActiveProfile": Variant("u", 7), "PerformanceDegraded": Variant("s", "hot")}
        async with (
            fake_service(private.address, UPOWER, OnBattery=Variant("s", "yes")),
            fake_service(private.address, PROFILES, **odd),
            listening(private) as (bus, changes),
        ):
            await changes.until(lambda: bus.facts == BusFacts(degraded="hot"))

    run(test)


def test_sleep_when_announced_then_at_once_and_until_it_is_over(private: PrivateBus) -> None:
    async def test() -> None:
        awake = {"PreparingForSleep": Variant("b", False), "Docked": Variant("b", False)}
        async with (
            fake_service(private.address, LOGIND, **awake) as logind,
            fake_service(private.address, PROFILES, **SAVER),
            listening(private) as (bus, changes),
        ):
            await changes.until(lambda: bus.facts.profile != "")
            # The property is not read again, since it still has the old value.
            await logind.signal(*LOGIND.signal, "b", [True])
            await changes.until(lambda: bus.facts.sleeping)
            await logind.signal(*LOGIND.signal, "b", [False])
            await changes.until(lambda: not bus.facts.sleeping)

    run(test)


def test_sleep_when_announced_by_a_stranger_then_ignored(private: PrivateBus) -> None:
    async def test() -> None:
        async with (
            fake_service(private.address, LOGIND, PreparingForSleep=Variant("b", False)),
            fake_service(private.address, PROFILES, **SAVER) as stranger,
            listening(private) as (bus, changes),
        ):
            await changes.until(lambda: bus.facts.profile != "")
            names = (await call_bus(stranger.bus, "ListNames"))[0]
            assert isinstance(names, list)
            for name in names:
                if name.startswith(":"):
                    forged = Message.new_signal(LOGIND.path, *LOGIND.signal, "b", [True])
                    forged.destination = name
                    await stranger.bus.send(forged)
            await stranger.change(ActiveProfile=Variant("s", "balanced"))
            await changes.until(lambda: bus.facts.profile == "balanced")
            assert not bus.facts.sleeping

    run(test)


def test_bus_when_it_goes_away_then_nothing_is_known_until_it_is_asked_for_again(private: PrivateBus) -> None:
    async def test() -> None:
        async with listening(private) as (bus, changes):
            async with fake_service(private.address, PROFILES, **SAVER):
                await changes.until(lambda: bus.facts.profile == "power-saver")
                private.stop()
                await changes.until(lambda: bus.facts == BusFacts())
            bus.refresh()  # there is no bus
            private.start()
            async with fake_service(private.address, PROFILES, **SAVER):
                while bus.facts == BusFacts():
                    bus.refresh()  # like each look at the machine
                    await asyncio.sleep(0.02)

    run(test)


def test_bus_when_nobody_asks_then_no_service_is_started(private: PrivateBus, tmp_path: Path) -> None:
    started = tmp_path / "started"
    for service in (PROFILES, OLD_PROFILES, UPOWER, LOGIND):
        private.offer(service.name, f"/usr/bin/touch {started}")

    async def test() -> None:
        async with fake_service(private.address, PROFILES, **SAVER) as fake:
            await call_bus(fake.bus, "ReloadConfig")
            names = (await call_bus(fake.bus, "ListActivatableNames"))[0]
            assert isinstance(names, list)
            assert LOGIND.name in names
            async with listening(private) as (bus, changes):
                await changes.until(lambda: bus.facts.profile == "power-saver")

    run(test)
    assert not started.exists()


@pytest.mark.parametrize("address", ["", "garbage", "unix:path=/nowhere/at/all", "unix:", "tcp:host=,port=x"])
def test_bus_when_there_is_none_then_no_facts_and_why_until_the_machine_has_none(address: str) -> None:
    async def test() -> None:
        changes, found = Changes(), [address]
        bus = Bus(lambda: found[0], changes)
        bus.refresh()
        assert bus.active is (address != "")
        while bus.active:
            await asyncio.sleep(0)
        assert bus.missing.startswith("system bus: no connection: ") is (address != "")
        found[0] = ""
        while bus.missing:
            bus.refresh()  # looks again after a pause
            await asyncio.sleep(0.02)
        await bus.close()
        assert (bus.facts, changes.count) == (BusFacts(), 0)

    run(test)


def test_find_when_named_in_the_environment_then_that_else_the_socket_of_the_machine(tmp_path: Path) -> None:
    root = HostRoot(tmp_path)
    assert find_bus(root, {}) == ""
    assert find_bus(root, {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/x"}) == "unix:path=/x"
    root.at(SYSTEM_SOCKET).parent.mkdir(parents=True)
    root.at(SYSTEM_SOCKET).touch()
    assert find_bus(root, {}) == bus_address(root.at(SYSTEM_SOCKET))


def test_address_when_the_path_has_odd_signs_then_escaped() -> None:
    assert bus_address(Path("/a b/[c]~,=d")) == "unix:path=/a%20b/%5Bc%5D%7E%2C%3Dd"


def test_idle_hint_when_asked_for_then_what_logind_says_and_each_change(private: PrivateBus) -> None:
    async def test() -> None:
        says = {"IdleHint": Variant("b", False), "IdleSinceHint": Variant("t", 5)}
        async with (
            fake_service(private.address, LOGIND, PreparingForSleep=Variant("b", False), **says) as logind,
            fake_service(private.address, UPOWER, OnBattery=Variant("b", True)) as upower,
            listening(private) as (bus, changes),
        ):
            await changes.until(lambda: bus.facts.on_battery is True)
            assert bus.facts.idle_since_s is None
            bus.want_idle_hint()
            await changes.until(lambda: bus.facts.idle_since_s == 0.0)
            idle = {"IdleHint": Variant("b", True), "IdleSinceHint": Variant("t", 1_700_000_000_500_000)}
            logind.says |= idle
            body = [IDLE_HINT.interface, idle, []]
            await logind.signal(*IDLE_HINT.signal, "sa{sv}as", body)
            await changes.until(lambda: bus.facts.idle_since_s == 1_700_000_000.5)
            await logind.leave()
            await changes.until(lambda: bus.facts.idle_since_s is None)
            await upower.change(OnBattery=Variant("b", False))
            await changes.until(lambda: bus.facts.on_battery is False)

    run(test)


def test_idle_hint_when_nobody_asks_then_logind_is_not_listened_to_for_it(private: PrivateBus) -> None:
    async def test() -> None:
        says = {"IdleHint": Variant("b", False), "PreparingForSleep": Variant("b", True)}
        async with (
            fake_service(private.address, LOGIND, **says) as logind,
            listening(private) as (bus, changes),
        ):
            await changes.until(lambda: bus.facts.sleeping)
            asked = logind.asked
            body = [IDLE_HINT.interface, says, []]
            await logind.signal(*IDLE_HINT.signal, "sa{sv}as", body)
            await logind.signal(*LOGIND.signal, "b", [False])
            await changes.until(lambda: not bus.facts.sleeping)
            assert (logind.asked, bus.facts.idle_since_s) == (asked, None)

    run(test)


@pytest.mark.parametrize(
    ("says", "since_s"),
    [
        ({"IdleHint": Variant("s", "yes")}, None),
        ({"IdleHint": Variant("b", True)}, None),
        ({"IdleHint": Variant("b", True), "IdleSinceHint": Variant("t", 0)}, None),
        ({"IdleHint": Variant("b", True), "IdleSinceHint": Variant("t", 2_000_000)}, 2.0),
    ],
)
def test_idle_hint_when_of_another_type_or_without_a_time_then_no_signal(
    private: PrivateBus, says: dict[str, Variant], since_s: float | None
) -> None:
    async def test() -> None:
        async with (
            fake_service(private.address, LOGIND, PreparingForSleep=Variant("b", True), **says),
            fake_service(private.address, UPOWER, OnBattery=Variant("b", True)) as upower,
            listening(private) as (bus, changes),
        ):
            bus.want_idle_hint()
            await changes.until(lambda: bus.facts.sleeping and bus.facts.on_battery is True)
            await upower.change(OnBattery=Variant("b", False))
            await changes.until(lambda: bus.facts.on_battery is False)
            assert bus.facts.idle_since_s == since_s

    run(test)
