"""Receive events of devices from the kernel, without udev.

The kernel sends to group 1; group 2 is udev's. Only network namespaces of the initial user
namespace receive events. Source: lib/kobject_uevent.c, netlink(7)
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
KERNEL_PORT = 0

_EVENT_BYTES_MAX = 8192
"""The kernel's own buffer has 2048 bytes plus the header. Source: UEVENT_BUFFER_SIZE"""

_EVENTS_PER_READ = 256
"""Most events per read, so that the event loop goes on; the socket stays readable if more are left."""


@dataclass(frozen=True, slots=True)
class Uevent:
    """One event of one device. Its other fields are not trusted: read sysfs instead."""

    action: str
    path: str
    subsystem: str


@dataclass(frozen=True, slots=True)
class Received:
    """The result of one read.

    Args:
        lost: events did not fit into the socket, so anything may have changed.
    """

    events: tuple[Uevent, ...] = ()
    lost: bool = False


def open_uevents() -> socket.socket | None:
    """Open a non-blocking socket that receives all events; None if the kernel offers none."""
    sock = None
    try:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
        sock.bind((0, KERNEL_GROUP))
    except OSError:
        if sock is not None:
            sock.close()
        return None
    return sock


def read_uevents(sock: socket.socket) -> Received:
    """Read all events that are available and that the kernel itself sent to the group.

    A process with CAP_NET_ADMIN can send to a netlink socket as well; its messages have its own
    port as sender and are dropped.
    """
    events, lost = [], False
    for _ in range(_EVENTS_PER_READ):
        try:
            data, _, _, sender = sock.recvmsg(_EVENT_BYTES_MAX)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                lost = True
                continue
            break  # nothing more
        event = parse_uevent(data)
        if sender == (KERNEL_PORT, KERNEL_GROUP) and event is not None:
            events.append(event)
    return Received(tuple(events), lost)


def parse_uevent(data: bytes) -> Uevent | None:
    """Parse an event "change@/devices/...", NUL, "KEY=value", NUL ...; None if it is not one."""
    head, *lines = data.decode(errors="replace").split("\0")
    action, at, path = head.partition("@")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    if not at or not action or "SUBSYSTEM" not in fields:
        return None
    return Uevent(action, path, fields["SUBSYSTEM"])
