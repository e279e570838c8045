"""Hear from the kernel itself when a device changes, without udev.

Source: lib/kobject_uevent.c, netlink(7). The kernel sends to group 1; group 2 is
udev's own. Only network namespaces of the initial user namespace get any.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
KERNEL_PORT = 0

_EVENT_BYTES_MAX = 8192
"""The kernel's own buffer is 2048 and the header. Source: UEVENT_BUFFER_SIZE"""

_EVENTS_PER_READ = 256
"""Then others in the loop get a turn; what is left makes the socket readable again."""


@dataclass(frozen=True, slots=True)
class Uevent:
    """One event of one device; its other fields are not to be trusted, sysfs is read again."""

    action: str
    path: str
    subsystem: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What was read at one time.

    Args:
        lost: events did not fit into the socket: anything may have changed.
    """

    events: tuple[Uevent, ...] = ()
    lost: bool = False


def open_uevents() -> socket.socket | None:
    """A non-blocking socket that hears all events; None where the kernel gives none."""
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


def read_uevents(sock: socket.socket) -> Heard:
    """All that can be read now, and that the kernel itself sent to everybody.

    Who has CAP_NET_ADMIN can send to a netlink socket as well; those have a
    port of their own as their sender.
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
    return Heard(tuple(events), lost)


def parse_uevent(data: bytes) -> Uevent | None:
    """The event in "change@/devices/...", NUL, "KEY=value", NUL ...; None if it is none."""
    head, *lines = data.decode(errors="replace").split("\0")
    action, at, path = head.partition("@")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    if not at or not action or "SUBSYSTEM" not in fields:
        return None
    return Uevent(action, path, fields["SUBSYSTEM"])
