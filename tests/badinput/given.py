"""Handles and paths that name nothing usable."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from ktask.v1 import handoff
from ktask.v1 import jobs_pb2 as pb

from tests.badinput.case import Accept, Act, Case, Group, Refuse, run, summed
from tests.badinput.other import OTHER
from tests.badinput.world import (
    PATTERN,
    Maker,
    Outcome,
    Source,
    World,
    at,
    file,
    handle,
    memfd,
)
from tests.support.real_daemon import spec, until

DATA = 'spec.sources["data"]'


def crc(data: Maker, **fields: Any) -> Act:
    return run("file.crc32", {"data": data}, **fields)


def fill(data: Maker) -> Act:
    return run("mem.fill", {"data": data}, arg={"value": 7})


# -- handles ---------------------------------------------------------------------------


def unknown(shown: str = "…") -> Refuse:
    return Refuse(
        "NOT_FOUND",
        "HANDLE_UNKNOWN",
        f'handle "{shown}": not known, or its connection was closed; hand the file over again',
        DATA,
    )


def dead_connection(world: World) -> Source:
    source = memfd()(world)

    def handles() -> int:
        return world.shared.look().counters["handles"]

    held = handles()
    world.door().close()
    # A call that overtakes the news of it may still use the handle.
    until(lambda: handles() < held, "the daemon has noticed")
    return source


def dropped(world: World) -> Source:
    source = memfd()(world)
    world.exchange(handoff.encode_request(handoff.Drop(8, (source.ref["handle"],))))
    return source


def dropped_by_another(world: World) -> Source:
    """One connection cannot give back another's handles."""
    source = memfd()(world)
    door = world.new_door()
    door.send(handoff.encode_request(handoff.Drop(8, (source.ref["handle"],))))
    assert isinstance(handoff.decode_reply(door.recv(handoff.REPLY_BYTES_MAX)), handoff.Dropped)
    return source


def closed_by_sender(world: World) -> Source:
    """A handle stays valid when the sender closes its copy."""
    fd = os.memfd_create("closed")
    os.write(fd, PATTERN)
    (given,) = world.hand(fd)
    os.close(fd)
    return Source({"handle": given})


def of_other(world: World) -> Source:
    return Source({"handle": world.other.handle})


def by_other(world: World) -> Outcome:
    """The other user names a handle of ours."""
    source = memfd()(world)
    wanted = spec("file.crc32", sources={"data": source.ref})
    return world.other.call("ktask.v1.Jobs/Run", pb.RunRequest(spec=wanted))


HANDLES: Group = (
    "Handles",
    [
        Case("a guessed handle", crc(handle("0" * 32)), unknown("0" * 32)),
        Case(
            "a handle in capitals",
            crc(lambda w: Source({"handle": memfd()(w).ref["handle"].upper() + "F"})),
            unknown(),
        ),
        Case("a handle of 1 MiB", crc(handle("a" * (1 << 20))), unknown("a" * 64)),
        Case("a handle with a NUL in it", crc(handle("a\0b")), unknown("a\0b")),
        Case("a handle whose connection was closed", crc(dead_connection), unknown()),
        Case("a handle that was given back", crc(dropped), unknown()),
        Case("another user's handle, used by root", crc(of_other), unknown(), other=True),
        Case("root's handle, used by another user", by_other, unknown(), other=True),
        Case(
            "a handle that another connection gave back",
            crc(dropped_by_another),
            Accept("only its own connection can", summed()),
        ),
        Case(
            "a handle whose descriptor the sender has closed",
            crc(closed_by_sender),
            Accept("the daemon has its own", summed()),
        ),
    ],
)

# -- paths -----------------------------------------------------------------------------


def in_place(name: str) -> Maker:
    return at(lambda world: str(world.place / name))


def symlink(world: World) -> Source:
    source = file(by_path=True)(world)
    link = world.place / "link"
    link.symlink_to(source.ref["path"])
    return Source({"path": str(link)})


def fifo(world: World) -> Source:
    os.mkfifo(world.place / "fifo")
    return Source({"path": str(world.place / "fifo")})


def bound_socket(world: World) -> Source:
    # A socket's path has at most 107 bytes; the relative path is shorter.
    with socket.socket(socket.AF_UNIX) as sock:
        place = os.open(world.place, os.O_PATH)
        sock.bind(f"/proc/self/fd/{place}/socket")
        os.close(place)
    return Source({"path": str(world.place / "socket")})


def below_a_file(world: World) -> Source:
    return Source({"path": file(by_path=True)(world).ref["path"] + "/x"})


def cgroup_file() -> str:
    """A file of a control group; where there is none, the case is left out."""
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            words = line.split()
            path = Path(words[4]) / "cgroup.procs"
            if words[words.index("-") + 1] in ("cgroup", "cgroup2") and path.exists():
                return str(path)
    pytest.skip("no control groups are mounted here")


def path_by_other(world: World) -> Outcome:
    wanted = spec("file.crc32", sources={"data": {"path": "/etc/hostname"}})
    return world.other.call("ktask.v1.Jobs/Run", pb.RunRequest(spec=wanted))


def unfit(message: str) -> Refuse:
    return Refuse("FAILED_PRECONDITION", "FD_UNSUITABLE", message, DATA)


def wrong_path(message: str) -> Refuse:
    return Refuse("INVALID_ARGUMENT", "SOURCE_INVALID", message, DATA)


def is_a(what: str) -> Refuse:
    return unfit(f'path "…": is a {what}, wanted a regular file')


def is_on(file_system: str) -> Refuse:
    return unfit(f'path "…": is on "{file_system}", wanted a local file system or memory')


PATHS: Group = (
    "Paths",
    [
        Case(
            "any path, from a user who is no admin",
            path_by_other,
            Refuse(
                "PERMISSION_DENIED",
                "NOT_ALLOWED",
                f"{DATA}: paths are for admins only, got uid {OTHER}; hand the open file over on the handoff "
                "socket (as `ktask hold` does) and name its handle",
                DATA,
            ),
            other=True,
        ),
        Case(
            "nothing at the path",
            crc(in_place("none")),
            Refuse("NOT_FOUND", "PATH_NOT_FOUND", 'path "…/none": No such file or directory', DATA),
        ),
        Case(
            "below a file",
            crc(below_a_file),
            Refuse("NOT_FOUND", "PATH_NOT_FOUND", 'path "…/x": Not a directory', DATA),
        ),
        Case(
            "a relative path",
            crc(at(lambda _: "etc/hostname")),
            wrong_path('path "etc/hostname": relative, wanted an absolute path'),
        ),
        Case(
            "a path with a NUL in it",
            crc(at(lambda _: "/etc/hostname\0x")),
            wrong_path("path: contains a NUL character, which no path can contain"),
        ),
        Case(
            "a path of 4097 bytes",
            crc(at(lambda _: "/" + "x" * 4096)),
            wrong_path("path: 4097 bytes long, wanted at most 4096"),
        ),
        Case(
            "a path with a name of 4095 bytes in it",
            crc(at(lambda _: "/" + "x" * 4095)),
            unfit('path "/…...": cannot be opened to read it: File name too long'),
        ),
        Case("a symbolic link", crc(symlink), is_a("symbolic link")),
        Case("a directory", crc(at(lambda world: str(world.place))), is_a("directory")),
        Case("a FIFO, which nobody writes", crc(fifo), is_a("pipe")),
        Case("a socket", crc(bound_socket), is_a("socket")),
        Case("a device", fill(at(lambda _: "/dev/null")), is_a("character device")),
        Case("a file of /proc", fill(at(lambda _: "/proc/self/oom_score_adj")), is_on("proc")),
        Case("a link of /proc to an open file", crc(at(lambda _: "/proc/self/fd/0")), is_on("proc")),
        Case("a file of /sys", crc(at(lambda _: "/sys/devices/system/cpu/online")), is_on("sysfs")),
        Case("a file of a control group", fill(at(lambda _: cgroup_file())), is_on("cgroup…")),
        Case(
            "the item after a good one has no file",
            run("file.crc32", items=[file(by_path=True), in_place("none")]),
            Refuse(
                "NOT_FOUND", "PATH_NOT_FOUND", 'path "…/none": No such file or directory', "spec.items[1]"
            ),
        ),
        Case("a file that is there", crc(file(by_path=True)), Accept("root may name paths", summed())),
    ],
)

GROUPS = [HANDLES, PATHS]
