"""The watch: fake machines, real events."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Variant

from ktaskd.governor import watch as module
from ktaskd.governor.bus import LOGIND, PROFILES, UPOWER
from ktaskd.governor.watch import LAG_S, SETTLE_S, SLOW_S, Thresholds, Watch
from ktaskd.host.root import HostRoot
from ktaskd.host.sockets.uevent import open_uevents, read_uevents
from ktaskd.model.observation import Heat, Observation, OwnLimit, Presence
from tests.governor.bus import Changes, fake_service, private_bus
from tests.support.hosts import FakeHost, host

pytestmark = pytest.mark.alone  # events of the kernel reach every process

LOOPBACK = Path("/sys/class/net/lo/uevent")


@pytest.fixture
def laptop(tmp_path: Path) -> FakeHost:
    return FakeHost.copy("laptop-ac", tmp_path / "host")


@asynccontextmanager
async def watching(
    root: HostRoot,
    on_change: Callable[[], None],
    *,
    environ: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Watch]:
    watch = Watch(root, on_change, environ=environ or {}, clock=clock, thresholds=Thresholds(io_us=1))
    watch.start()
    try:
        yield watch
    finally:
        await watch.close()


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


def nothing() -> None:
    return


def test_observation_when_a_fake_machine_is_read_then_all_of_it() -> None:
    async def test() -> None:
        async with watching(host("laptop-hot"), nothing) as watch:
            seen = watch.observe()
            assert (seen.power.battery_percent, seen.thermal.heat) == (100, Heat.MODERATE)
            assert seen.pressure.cpu_source.startswith("cpu.pressure of init.scope")
            assert not seen.sleeping
        async with watching(host("container-quota"), nothing) as watch:
            assert watch.observe().own == OwnLimit(1.5, 12)

    run(test)


def test_observation_when_the_machine_is_empty_then_the_defaults(tmp_path: Path) -> None:
    async def test() -> None:
        async with watching(HostRoot(tmp_path), nothing) as watch:
            assert watch.observe() == Observation()

    run(test)


def test_observation_when_of_the_real_machine_then_an_answer() -> None:
    async def test() -> None:
        async with watching(HostRoot(), nothing) as watch:
            assert watch.observe([os.getpid()]).pressure.cpu_source

    run(test)


@pytest.mark.other_uid  # only root may have the kernel send an event
def test_unplugging_when_a_uevent_comes_then_seen(laptop: FakeHost) -> None:
    async def test() -> None:
        changes = Changes()
        async with watching(laptop.root, changes) as watch:
            assert not watch.observe().power.on_battery
            laptop.unplug()
            LOOPBACK.write_text("change")
            await changes.until(lambda: changes.count > 0)
            assert watch.observe(fresh=False).power.on_battery

    run(test)


@pytest.mark.other_uid  # only root may have the kernel send an event
def test_reading_when_a_uevent_came_then_marked_as_of_it_until_it_can_no_longer_lag(laptop: FakeHost) -> None:
    async def test() -> None:
        now = [1000.0]
        changes = Changes()
        async with watching(laptop.root, changes, clock=lambda: now[0]) as watch:
            before = watch.observe()
            assert not before.power.events.recent
            LOOPBACK.write_text("change")
            await changes.until(lambda: changes.count > 0)
            seen = watch.observe(fresh=False)
            assert seen.power.events.recent
            assert seen.thermal.events.recent
            assert seen.power.events.count > before.power.events.count
            now[0] += LAG_S + SETTLE_S + 0.01
            assert not watch.observe().power.events.recent

    run(test)


def test_user_when_not_asked_for_then_nobody_looks_and_else_when_a_terminal_was_typed_on(
    laptop: FakeHost,
) -> None:
    async def test() -> None:
        laptop.write("/dev/pts/3", "")
        os.utime(laptop.root.at("/dev/pts/3"), (time.time() - 500, 0))
        async with watching(laptop.root, nothing) as watch:
            assert watch.observe().user == Presence()
            user = watch.observe(user=True).user
            assert user.idle_s == pytest.approx(500, abs=60)
            assert "pts" in user.source
            laptop.remove("/dev/pts/3")
            assert watch.observe(user=True).user == Presence()

    run(test)


@pytest.mark.dbus_daemon
def test_user_when_logind_reports_it_then_the_terminals_do_not_count(
    tmp_path: Path, laptop: FakeHost
) -> None:
    async def test() -> None:
        laptop.write("/dev/pts/3", "")
        changes = Changes()
        with private_bus(tmp_path) as bus:
            environ = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address}
            since = Variant("t", int((time.time() - 7000) * 1e6))
            async with (
                fake_service(bus.address, LOGIND, IdleHint=Variant("b", True), IdleSinceHint=since),
                watching(laptop.root, changes, environ=environ) as watch,
            ):
                await changes.until(lambda: watch.observe(user=True).user.source == "logind")
                assert watch.observe(user=True).user.idle_s == pytest.approx(7000, abs=60)

    run(test)


@pytest.mark.other_uid  # only root may have the kernel send an event
def test_unplugging_when_the_battery_is_late_then_a_second_call_and_then_quiet(laptop: FakeHost) -> None:
    async def test() -> None:
        seen: list[bool] = []
        looks_again: list[bool] = []
        done = asyncio.Event()

        def on_change() -> None:
            seen.append(watch.observe(fresh=False).power.on_battery)
            looks_again.append(watch.timers == 1)
            laptop.write("/sys/class/power_supply/BAT0/status", "Discharging")
            if seen[-1]:
                done.set()

        async with watching(laptop.root, on_change) as watch:
            laptop.write("/sys/class/power_supply/AC/online", "0")
            LOOPBACK.write_text("change")
            async with asyncio.timeout(60):
                await done.wait()
                while watch.timers:
                    await asyncio.sleep(0.01)
            assert not seen[0]
            assert seen[-1]
            assert looks_again[0]  # an event of something else on this machine would also do

    run(test)


@pytest.mark.other_uid  # only root may have the kernel send an event
def test_uevent_when_of_another_subsystem_of_the_real_machine_then_nothing_happens() -> None:
    async def test() -> None:
        heard = asyncio.Event()
        ears = open_uevents()
        assert ears is not None
        async with watching(HostRoot(), nothing) as watch:
            loop = asyncio.get_running_loop()

            def hear() -> None:
                if any(event.subsystem == "net" for event in read_uevents(ears).events):
                    heard.set()

            loop.add_reader(ears, hear)
            LOOPBACK.write_text("change")
            await asyncio.wait_for(heard.wait(), 60)
            await asyncio.sleep(
                0
            )  # the watch's own socket was readable in the same iteration of the loop or before
            await asyncio.sleep(0)
            assert watch.timers == 0
            loop.remove_reader(ears)
        ears.close()

    run(test)


@pytest.mark.other_uid  # before Linux 6.5 only root may have a trigger
def test_watch_when_idle_then_no_timer_and_no_trigger_runs() -> None:
    async def test() -> None:
        async with watching(HostRoot(), nothing) as watch:
            assert (watch.timers, watch.triggers) == (0, 0)
            watch.poll(True)
            watch.poll(True)
            assert watch.timers == 1
            watch.observe()
            assert watch.triggers >= 2
            watch.poll(False)
            assert (watch.timers, watch.triggers) == (0, 0)

    run(test)


def test_poll_when_on_then_called_repeatedly(monkeypatch: pytest.MonkeyPatch, laptop: FakeHost) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)

    async def test() -> None:
        changes = Changes()
        async with watching(laptop.root, changes) as watch:
            watch.poll(True)
            await changes.until(lambda: changes.count >= 3)

    run(test)


@pytest.mark.other_uid  # before Linux 6.5 only root may have a trigger
def test_trigger_when_others_wait_then_called_before_the_next_look(
    monkeypatch: pytest.MonkeyPatch, laptop: FakeHost
) -> None:
    monkeypatch.setattr(module, "POLL_S", 1000.0)
    # CPU pressure is the only kind that a test can cause.
    laptop.remove("/proc/pressure/io")
    laptop.root.at("/proc/pressure/io").symlink_to("/proc/pressure/cpu")

    async def test() -> None:
        changes = Changes()
        async with watching(laptop.root, changes) as watch:
            hogs = [
                await asyncio.create_subprocess_exec("sh", "-c", "while :; do :; done")
                for _ in range(4 * len(os.sched_getaffinity(0)))
            ]
            try:
                watch.poll(True)
                watch.observe()
                assert watch.triggers == 1
                await changes.until(lambda: changes.count > 0)
            finally:
                for hog in hogs:
                    hog.kill()
                    await hog.wait()

    run(test)


def test_power_when_not_asked_afresh_then_read_slowly(laptop: FakeHost) -> None:
    async def test() -> None:
        now = [1000.0]
        async with watching(laptop.root, nothing, clock=lambda: now[0]) as watch:
            watch.observe()
            laptop.unplug()
            now[0] += SLOW_S - 1
            assert not watch.observe(fresh=False).power.on_battery
            now[0] += 1
            assert watch.observe(fresh=False).power.on_battery
            laptop.plug_in()
            assert not watch.observe().power.on_battery

    run(test)


@pytest.mark.dbus_daemon
@pytest.mark.parametrize(("name", "on_battery"), [("desktop", True), ("laptop-ac", False)])
def test_bus_when_it_reports_something_then_seen_but_sysfs_decides_about_power(
    tmp_path: Path, name: str, on_battery: bool
) -> None:
    async def test() -> None:
        changes = Changes()
        saver = {
            "ActiveProfile": Variant("s", "power-saver"),
            "PerformanceDegraded": Variant("s", "lap-detected"),
        }
        with private_bus(tmp_path) as bus:
            environ = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address}
            async with (
                fake_service(bus.address, PROFILES, **saver),
                fake_service(bus.address, UPOWER, OnBattery=Variant("b", True)),
                fake_service(bus.address, LOGIND, PreparingForSleep=Variant("b", True)),
                watching(host(name), changes, environ=environ) as watch,
            ):
                await changes.until(lambda: watch.observe(fresh=False).sleeping)
                power = watch.observe(fresh=False).power
                assert (power.profile, power.degraded) == ("power-saver", "lap-detected")
                assert power.on_battery is on_battery
                assert watch.missing == []

    run(test)
