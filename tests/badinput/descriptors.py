"""Descriptors that the handoff socket refuses, or that fit no function."""

from __future__ import annotations

import os
import select
import socket
import struct

import pytest
from ktask.v1 import handoff

from ktaskd.door.handoff.vet import read_seals
from ktaskd.model.source import F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, F_SEAL_WRITE
from tests.badinput.case import Accept, Act, Case, Group, Refuse, filled, run, summed
from tests.badinput.given import DATA, cgroup_file, crc, fill, unfit
from tests.badinput.world import (
    HANDOFF,
    Maker,
    Outcome,
    Source,
    World,
    descriptor,
    file,
    memfd,
)


def opened(path: str, flags: int = os.O_RDONLY) -> Maker:
    return descriptor(lambda _: os.open(path, flags | os.O_CLOEXEC))


def one_end(world: World) -> int:
    """One end of a pipe; the other is the case's as well."""
    reading, writing = os.pipe()
    world.own(writing)
    return reading


def one_peer(world: World) -> int:
    a, b = socket.socketpair()
    world.own(b.detach())
    return a.detach()


def epoll(world: World) -> int:
    with select.epoll() as made:
        return os.dup(made.fileno())


def o_path(world: World) -> int:
    return os.open(file(by_path=True)(world).ref["path"], os.O_PATH)


def closed(world: World) -> Outcome:
    """A closed descriptor cannot be sent, so the message arrives without one."""
    world.exchange(handoff.encode_request(handoff.Hand(7, (1,))))


def sent(request: bytes, fds: int = 0) -> Act:
    """An unchanged message, with this many descriptors of one file."""

    def act(world: World) -> Outcome:
        world.exchange(request, [world.own(os.memfd_create("sent"))] * fds)

    return act


def message(kind: int, count: int, body: bytes, magic: bytes = b"KTFD", version: int = 1) -> bytes:
    return struct.pack("<4sBBHI", magic, version, kind, count, 7) + body


def unfit_fd(what: str) -> Refuse:
    return Refuse(HANDOFF, "FD_UNSUITABLE", f"descriptor 0: {what}", "descriptor 0")


def no_message(text: str) -> Refuse:
    return Refuse(HANDOFF, "PROTOCOL_INVALID", text)


def lacking(opened_: str, function: str, does: str) -> Refuse:
    text = f'source "data": opened {opened_}, function "{function}" {does} it'
    return Refuse("FAILED_PRECONDITION", "ACCESS_MISSING", text, DATA)


SEALED = unfit('source "data": sealed against writing, function "mem.fill" writes it')
REGULAR = "wanted a regular file or memory"


def on_disk(world: World) -> Source:
    source = file()(world)
    if read_seals(source.fd) is not None:
        pytest.skip("the directory of temporary files is in memory")
    return source


def second_of_two(world: World) -> Outcome:
    """One good descriptor and a bad one: neither is kept."""
    good = world.own(os.memfd_create("good"))
    world.hand(good, world.own(one_end(world)))


DESCRIPTORS: Group = (
    "Descriptors",
    [
        Case("a directory", crc(opened("/etc")), unfit_fd(f"is a directory, {REGULAR}")),
        Case("a socket", crc(descriptor(one_peer)), unfit_fd(f"is a socket, {REGULAR}")),
        Case("a pipe", crc(descriptor(one_end)), unfit_fd(f"is a pipe, {REGULAR}")),
        Case("a device", fill(opened("/dev/null", os.O_RDWR)), unfit_fd(f"is a character device, {REGULAR}")),
        Case(
            "an epoll descriptor",
            crc(descriptor(epoll)),
            unfit_fd(f"is a kernel object without a file, {REGULAR}"),
        ),
        Case(
            "opened with O_PATH",
            crc(descriptor(o_path)),
            unfit_fd("opened with O_PATH, wanted it open for reading or writing"),
        ),
        Case("a closed one", closed, no_message("0 descriptors arrived, wanted 1")),
        Case(
            "a file of /proc",
            fill(opened("/proc/self/oom_score_adj", os.O_RDWR)),
            unfit_fd('is on "proc", wanted a local file system or memory'),
        ),
        Case(
            "a file of /sys",
            crc(opened("/sys/devices/system/cpu/online")),
            unfit_fd('is on "sysfs", wanted a local file system or memory'),
        ),
        Case(
            "a file of a control group",
            crc(lambda w: opened(cgroup_file())(w)),
            unfit_fd('is on "cgroup…", wanted a local file system or memory'),
        ),
        Case(
            "write-only memory that is sealed against writing",
            crc(memfd(mode=os.O_WRONLY, seals=F_SEAL_FUTURE_WRITE)),
            unfit_fd("opened write-only and sealed against writing, so nothing can be done with it"),
        ),
        Case(
            "a pipe after a good one",
            second_of_two,
            Refuse(HANDOFF, "FD_UNSUITABLE", f"descriptor 1: is a pipe, {REGULAR}", "descriptor 1"),
        ),
        Case(
            "one more than the message says",
            sent(message(handoff.HAND, 1, b"\1"), 2),
            no_message("2 descriptors arrived, wanted 1"),
        ),
        Case(
            "200 in one message",
            sent(message(handoff.HAND, 16, b"\1" * 16), 200),
            no_message("200 descriptors arrived, wanted 16"),
        ),
        Case("a count of 0", sent(message(handoff.HAND, 0, b""), 1), no_message("count 0: wanted 1 to 253")),
        Case(
            "a count of 254",
            sent(message(handoff.HAND, 254, b"\1" * 254), 1),
            no_message("count 254: wanted 1 to 253"),
        ),
        Case(
            "a flag that is none",
            sent(message(handoff.HAND, 1, b"\x80"), 1),
            no_message("flags [128]: unknown bits, wanted 0 or 1"),
        ),
        Case(
            "an unknown kind of message",
            sent(message(9, 1, b"\1"), 1),
            no_message("kind 9: not a request, wanted 1 or 2"),
        ),
        Case(
            "another version of the protocol",
            sent(message(handoff.HAND, 1, b"\1", version=2), 1),
            no_message("version 2: wanted 1"),
        ),
        Case(
            "no message of the protocol at all",
            sent(b"GET / HTTP/1.1\r\n\r\n", 1),
            no_message("magic …: wanted …"),
        ),
        Case(
            "a message of 9000 bytes",
            sent(message(handoff.HAND, 1, b"\1" * 8988), 1),
            no_message("message of … bytes and 1 descriptors arrived truncated"),
        ),
        Case(
            "read-only memory, for a function that writes",
            fill(memfd(mode=os.O_RDONLY)),
            lacking("read-only", "mem.fill", "writes"),
        ),
        Case(
            "a read-only file, for a function that writes",
            fill(file(os.O_RDONLY)),
            lacking("read-only", "mem.fill", "writes"),
        ),
        Case(
            "write-only memory, for a function that reads",
            crc(memfd(mode=os.O_WRONLY)),
            lacking("write-only", "file.crc32", "reads"),
        ),
        Case(
            "a write-only file, for a function that reads",
            crc(file(os.O_WRONLY)),
            lacking("write-only", "file.crc32", "reads"),
        ),
        Case(
            "a write-only item after a good one",
            run("file.crc32", items=[memfd(), memfd(mode=os.O_WRONLY)]),
            Refuse(
                "FAILED_PRECONDITION",
                "ACCESS_MISSING",
                'item 1: opened write-only, function "file.crc32" reads it',
                "spec.items[1]",
            ),
        ),
        Case(
            "memory with O_APPEND, for a function that writes",
            fill(memfd(append=True)),
            unfit('source "data": opened with O_APPEND, function "mem.fill" writes at positions'),
        ),
        Case(
            "a file with O_APPEND, for a function that writes",
            fill(file(os.O_RDWR | os.O_APPEND)),
            unfit('source "data": opened with O_APPEND, function "mem.fill" writes at positions'),
        ),
        Case(
            "memory sealed with F_SEAL_WRITE, for a function that writes",
            fill(memfd(seals=F_SEAL_WRITE)),
            SEALED,
        ),
        Case(
            "memory sealed with F_SEAL_FUTURE_WRITE, for a function that writes",
            fill(memfd(seals=F_SEAL_FUTURE_WRITE)),
            SEALED,
        ),
        Case(
            "a file on a disk, for a function of memory",
            run("mem.populate", {"data": on_disk}),
            unfit(
                'source "data": a file on …, function "mem.populate" works on memory '
                "(memfd, tmpfs, hugetlbfs)"
            ),
        ),
        Case(
            "read-only memory to be populated",
            run("mem.populate", {"data": memfd(mode=os.O_RDONLY)}),
            lacking("read-only", "mem.populate", "writes"),
        ),
        Case(
            "a file with O_DIRECT",
            crc(file(os.O_RDONLY | os.O_DIRECT)),
            unfit(
                'source "data": opened with O_DIRECT, which lets nobody read or write odd lengths; '
                "open it without"
            ),
        ),
        Case(
            "O_APPEND, for a function that reads",
            crc(file(os.O_RDONLY | os.O_APPEND)),
            Accept("it only matters to writes", summed()),
        ),
        Case(
            "sealed against writing, for a function that reads",
            crc(memfd(seals=F_SEAL_WRITE | F_SEAL_SHRINK)),
            Accept("it only matters to writes", summed()),
        ),
        Case(
            "a write-only file, for a function that writes",
            fill(file(os.O_WRONLY)),
            Accept("it need not read", filled(7)),
        ),
        Case(
            "memory not sealed against shrinking, to be mapped",
            run("mem.populate", {"data": memfd()}),
            Accept("pages are asked for by a call that answers with an errno, not touched"),
        ),
        Case(
            "memory whose offset others use",
            crc(memfd(own_offset=False)),
            Accept("positional reads and writes only", summed()),
        ),
    ],
)

GROUPS = [DESCRIPTORS]
