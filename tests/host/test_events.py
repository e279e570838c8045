"""Uevents and PSI triggers, of the real kernel.

Tests: ktaskd/host/sockets/uevent.py, ktaskd/host/pressure/trigger.py
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.cgroups.cgroup import parse_mounts
from ktaskd.host.pressure.trigger import Triggers
from ktaskd.host.sockets.uevent import (
    KERNEL_GROUP,
    NETLINK_KOBJECT_UEVENT,
    Heard,
    Uevent,
    open_uevents,
    parse_uevent,
    read_uevents,
)

pytestmark = pytest.mark.alone  # events of the kernel reach every process

PATIENCE_S = 60.0
LOOPBACK = Path("/sys/class/net/lo/uevent")
FORGED = b"change@/devices/forged\0ACTION=change\0SUBSYSTEM=power_supply\0"


@pytest.fixture
def ears() -> Iterator[socket.socket]:
    sock = open_uevents()
    assert sock is not None
    yield sock
    sock.close()


def hear(sock: socket.socket) -> Heard:
    assert select.select([sock], [], [], PATIENCE_S)[0]
    return read_uevents(sock)


def hear_loopback(sock: socket.socket) -> list[Uevent]:
    """All events up to the next one of the loopback device."""
    heard: list[Uevent] = []
    while not any(event.subsystem == "net" for event in heard):
        heard += hear(sock).events
    return heard


@pytest.mark.other_uid  # only root may have the kernel send one
def test_uevent_when_the_kernel_sends_one_then_heard(ears: socket.socket) -> None:
    LOOPBACK.write_text("change")
    assert Uevent("change", "/devices/virtual/net/lo", "net") in hear_loopback(ears)


@pytest.mark.other_uid  # only root may forge one
@pytest.mark.parametrize("to_all", [False, True])
def test_uevent_when_a_process_sends_one_then_not_heard(ears: socket.socket, to_all: bool) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as forger:
        forger.bind((0, 0))
        forger.sendto(FORGED, (0, KERNEL_GROUP) if to_all else (ears.getsockname()[0], 0))
    LOOPBACK.write_text("change")
    assert "/devices/forged" not in [event.path for event in hear_loopback(ears)]


@pytest.mark.other_uid  # only root may have the kernel send so many
def test_uevents_when_they_do_not_fit_then_lost_is_told_and_listening_goes_on(ears: socket.socket) -> None:
    ears.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for _ in range(100):
        LOOPBACK.write_text("change")
    assert hear(ears).lost
    LOOPBACK.write_text("change")
    while hear(ears).lost:  # others may have the kernel send more than fits, too
        LOOPBACK.write_text("change")


def test_uevents_when_there_are_none_then_nothing_is_heard(ears: socket.socket) -> None:
    read_uevents(ears)
    assert not read_uevents(ears).lost


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"change",
        b"change@/x",
        b"@/x\0SUBSYSTEM=net\0",
        b"libudev\0\xfe\xed\xca\xfe\0\0",
        b"\xff\xfe@\0",
    ],
)
def test_uevent_when_it_is_none_then_none(data: bytes) -> None:
    assert parse_uevent(data) is None


@given(st.binary(max_size=200))
def test_uevent_when_it_is_any_bytes_then_an_answer(data: bytes) -> None:
    event = parse_uevent(data)
    assert event is None or event.action


# -- triggers ---------------------------------------------------------------------------


@pytest.fixture
def triggers() -> Iterator[Triggers]:
    made = Triggers()
    yield made
    made.close()


@pytest.mark.other_uid  # before Linux 6.5 only root may have a trigger
def test_trigger_when_tasks_wait_then_readable_through_the_one_descriptor(triggers: Triggers) -> None:
    path = Path("/proc/pressure/cpu")
    assert triggers.add(path, 1)
    mine = os.sched_getaffinity(0)
    children = [_hog(min(mine)) for _ in range(2)]
    try:
        assert select.select([triggers.fileno()], [], [], PATIENCE_S)[0]
        triggers.read()
        assert triggers.paths == {path}
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def _hog(cpu: int) -> int:
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {cpu})
        while True:
            pass
    return child


@pytest.mark.parametrize(("some_us", "window_us"), [(0, 2_000_000), (2_000_001, 2_000_000), (1, 11_000_000)])
def test_trigger_when_the_kernel_refuses_then_false(triggers: Triggers, some_us: int, window_us: int) -> None:
    assert not triggers.add(Path("/proc/pressure/io"), some_us, window_us)
    assert len(triggers) == 0


def test_trigger_when_the_file_is_an_ordinary_one_then_false_and_left_alone(
    triggers: Triggers, tmp_path: Path
) -> None:
    fake = tmp_path / "cpu.pressure"
    fake.write_text("some total=1\n")
    assert not triggers.add(fake, 1)
    assert not triggers.add(tmp_path / "none", 1)
    assert fake.read_text() == "some total=1\n"


@pytest.mark.other_uid  # before Linux 6.5 only root may have a trigger
def test_triggers_when_nobody_waits_so_long_then_nothing(triggers: Triggers) -> None:
    assert triggers.add(Path("/proc/pressure/io"), 2_000_000)
    assert triggers.add(Path("/proc/pressure/memory"), 2_000_000)
    assert len(triggers) == 2
    assert not select.select([triggers.fileno()], [], [], 0)[0]


@pytest.mark.other_uid  # only root may make a group
def test_trigger_when_its_group_ends_then_told_and_watched_no_more(triggers: Triggers) -> None:
    mounts = [mount for mount in parse_mounts(Path("/proc/self/mountinfo").read_text()) if not mount.legacy]
    if not mounts or not os.access(mounts[0].point, os.W_OK):
        pytest.skip("no cgroup v2 that we may write")
    group = Path(mounts[0].point) / f"ktaskd-test-{os.getpid()}"
    group.mkdir()
    try:
        assert triggers.add(group / "cpu.pressure", 1)
    finally:
        group.rmdir()
    assert select.select([triggers.fileno()], [], [], PATIENCE_S)[0]
    triggers.read()
    assert len(triggers) == 0
