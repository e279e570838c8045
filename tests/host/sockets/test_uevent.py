"""Events of devices, of the real kernel."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.sockets.uevent import (
    KERNEL_GROUP,
    NETLINK_KOBJECT_UEVENT,
    Received,
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
def uevents() -> Iterator[socket.socket]:
    sock = open_uevents()
    assert sock is not None
    yield sock
    sock.close()


def hear(sock: socket.socket) -> Received:
    assert select.select([sock], [], [], PATIENCE_S)[0]
    return read_uevents(sock)


def hear_loopback(sock: socket.socket) -> list[Uevent]:
    """All events up to the next one of the loopback device."""
    heard: list[Uevent] = []
    while not any(event.subsystem == "net" for event in heard):
        heard += hear(sock).events
    return heard


@pytest.mark.other_uid  # only root may have the kernel send one
def test_uevent_when_the_kernel_sends_one_then_heard(uevents: socket.socket) -> None:
    LOOPBACK.write_text("change")
    assert Uevent("change", "/devices/virtual/net/lo", "net") in hear_loopback(uevents)


@pytest.mark.other_uid  # only root may forge one
@pytest.mark.parametrize("to_all", [False, True])
def test_uevent_when_a_process_sends_one_then_not_heard(uevents: socket.socket, to_all: bool) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as forger:
        forger.bind((0, 0))
        forger.sendto(FORGED, (0, KERNEL_GROUP) if to_all else (uevents.getsockname()[0], 0))
    LOOPBACK.write_text("change")
    assert "/devices/forged" not in [event.path for event in hear_loopback(uevents)]


@pytest.mark.other_uid  # only root may have the kernel send so many
def test_uevents_when_they_do_not_fit_then_lost_is_set_and_listening_goes_on(uevents: socket.socket) -> None:
    uevents.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for _ in range(100):
        LOOPBACK.write_text("change")
    assert hear(uevents).lost
    LOOPBACK.write_text("change")
    while hear(uevents).lost:  # other processes may cause more events than fit, too
        LOOPBACK.write_text("change")


def test_uevents_when_there_are_none_then_nothing_is_heard(uevents: socket.socket) -> None:
    read_uevents(uevents)
    assert not read_uevents(uevents).lost


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
