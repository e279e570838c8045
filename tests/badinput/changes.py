"""Sources that change while a job uses them, and destinations that are full."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable

import pytest
from ktask.v1 import jobs_pb2 as pb

from ktaskd.model.source import F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE
from tests.badinput.case import Accept, Act, Case, Effect, End, Group, filled, items_summed, piece, run
from tests.badinput.given import unfit
from tests.badinput.world import MIB, PATTERN, SIZE, Maker, Outcome, Source, World, file, memfd, seal

HUGE = 1 << 40
"""Longer than any worker can read, and all holes."""


# -- changes to sources -------------------------------------------------------------------


def cut(role: str, size: int) -> Callable[[World], None]:
    """The source becomes shorter."""

    def change(world: World) -> None:
        source = world.roles[role]
        os.truncate(source.fd, size)
        del source.expected[size:]

    return change


def sealed(role: str, seals: int) -> Callable[[World], None]:
    return lambda world: seal(world.roles[role].fd, seals)


def flagged(role: str, flag: int) -> Callable[[World], None]:
    """Its owner sets a flag on the description that it shares with the daemon."""

    def change(world: World) -> None:
        fd = world.roles[role].given
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | flag)

    return change


def before(change: Callable[[World], None], function: str, sources: dict[str, Maker]) -> Act:
    """A job that is requested after the change to its source."""

    def act(world: World) -> Outcome:
        wanted = world.spec(function, sources, [])
        change(world)
        return world.run(wanted)

    return act


def after(change: Callable[[World], None], function: str, sources: dict[str, Maker], **fields: object) -> Act:
    """A job that is accepted before the change and begins after it."""

    def act(world: World) -> Outcome:
        return world.run_after(world.spec(function, sources, [], **fields), lambda: change(world))

    return act


def amid(change: Callable[[World], None], function: str, sources: dict[str, Maker], **fields: object) -> Act:
    """A job whose source changes while it works."""

    def act(world: World) -> Outcome:
        return world.run_amid(world.spec(function, sources, [], **fields), lambda: change(world))

    return act


def item_cut(world: World) -> Outcome:
    """The second of two items becomes shorter before the job begins."""

    def change() -> None:
        os.truncate(world.sources[1].fd, 7)
        del world.sources[1].expected[7:]

    return world.run_after(world.spec("file.crc32", {}, [memfd(), memfd()]), change)


def truncated(role: str, got: str, wanted: str = "…") -> str:
    return f'source "{role}": ends at {got}, but the job needs bytes up to {wanted}'


def no_space(role: str) -> str:
    return f'source "{role}": cannot write bytes … to …: no space left on device'


def dirty_exactly(start: int, end: int, value: int, role: str = "data") -> Effect:
    """These bytes were set before the job failed, and are reported; no others."""

    def effect(world: World, job: pb.Job) -> None:
        assert [(span.start, span.end) for span in job.error.dirty] == [(start, end)]
        world.roles[role].expected[start:end] = bytes([value]) * (end - start)

    return effect


def size_is(role: str, size: int) -> Effect:
    """The source has this length."""

    def effect(world: World, job: pb.Job) -> None:
        assert os.fstat(world.roles[role].fd).st_size == size

    return effect


def copied(start: int, end: int) -> Effect:
    """Bytes of "dst" are those of "src"; bytes between them are zeros."""

    def effect(world: World, job: pb.Job) -> None:
        dst = world.roles["dst"].expected
        dst.extend(bytes(max(0, end - len(dst))))
        dst[start:end] = world.roles["src"].expected[start:end]

    return effect


CHANGED: Group = (
    "Sources that change",
    [
        Case(
            "memory truncated before it is read",
            after(cut("data", MIB), "file.crc32", {"data": memfd()}),
            End("FAILED", "FUNCTION_ERROR", errno.ENODATA, truncated("data", str(MIB))),
        ),
        Case(
            "a file truncated before it is read",
            after(cut("data", 5), "file.crc32", {"data": file(os.O_RDONLY)}),
            End("FAILED", "FUNCTION_ERROR", errno.ENODATA, truncated("data", "5")),
        ),
        Case(
            "memory truncated while it is read",
            amid(cut("data", MIB), "file.crc32", {"data": memfd(HUGE, mode=os.O_RDONLY)}),
            End("FAILED", "FUNCTION_ERROR", errno.ENODATA, truncated("data", "…")),
        ),
        Case(
            "an item truncated before it is read",
            item_cut,
            Accept("an item is as long as it is when its turn comes", items_summed(SIZE, 7)),
        ),
        Case(
            "memory truncated before it is written",
            after(cut("data", MIB), "mem.fill", {"data": memfd()}, ranges=[piece(MIB // 2, 2 * MIB)]),
            End("FAILED", "FUNCTION_ERROR", errno.ENODATA, truncated("data", str(MIB))),
        ),
        Case(
            "a file truncated before it is written",
            after(cut("data", 0), "mem.fill", {"data": file()}),
            End("FAILED", "FUNCTION_ERROR", errno.ENODATA, truncated("data", "0")),
        ),
        Case(
            "`src` truncated before it is copied",
            after(cut("src", MIB), "file.copy", {"src": file(), "dst": memfd()}),
            End("FAILED", "FUNCTION_ERROR", errno.ENODATA, truncated("src", str(MIB), str(SIZE))),
        ),
        Case(
            "`src` truncated while it is copied",
            amid(
                cut("src", SIZE),
                "file.copy",
                {"src": memfd(HUGE), "dst": memfd()},
                ranges=[piece(SIZE, HUGE - SIZE)],
            ),
            End(
                "FAILED",
                "FUNCTION_ERROR",
                errno.ENODATA,
                truncated("src", str(SIZE)),
                size_is("dst", SIZE),
            ),
        ),
        Case(
            "`dst` truncated before it is copied to",
            after(
                cut("dst", MIB), "file.copy", {"src": memfd(), "dst": file()}, ranges=[piece(2 * MIB, MIB)]
            ),
            Accept("it is made long enough when the job begins", copied(2 * MIB, 3 * MIB)),
        ),
        Case(
            "memory sealed against writing before it is written",
            after(sealed("data", F_SEAL_WRITE), "mem.fill", {"data": memfd()}),
            End(
                "FAILED",
                "FUNCTION_ERROR",
                errno.EPERM,
                'source "data": cannot write bytes … to …: operation not permitted: '
                "the file was sealed against writing",
            ),
        ),
        Case(
            "O_APPEND set after it was handed over, for a function that writes",
            before(flagged("data", os.O_APPEND), "mem.fill", {"data": memfd()}),
            unfit('source "data": opened with O_APPEND, function "mem.fill" writes at positions'),
        ),
        Case(
            "O_DIRECT set after it was handed over",
            before(flagged("data", os.O_DIRECT), "file.crc32", {"data": file()}),
            unfit(
                'source "data": opened with O_DIRECT, which lets nobody read or write odd lengths; '
                "open it without"
            ),
        ),
        Case(
            "O_DIRECT set after the job was accepted",
            after(flagged("data", os.O_DIRECT), "file.crc32", {"data": file(size=SIZE - 1)}),
            End(
                "FAILED",
                "FUNCTION_ERROR",
                errno.EINVAL,
                'source "data": cannot read bytes … to …: invalid argument: O_DIRECT was set on the file '
                "after it was handed over; clear the flag",
            ),
        ),
        Case(
            "memory sealed against writing after it was handed over",
            before(sealed("data", F_SEAL_WRITE), "mem.fill", {"data": memfd()}),
            unfit('source "data": sealed against writing, function "mem.fill" writes it'),
        ),
        Case(
            "memory sealed against shrinking before it is read",
            after(sealed("data", F_SEAL_SHRINK), "mem.fill", {"data": memfd()}, arg={"value": 7}),
            Accept("it was accepted as it was, and is written as such", filled(7)),
        ),
    ],
)

# -- destinations ---------------------------------------------------------------------------

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
"""Numbers of the calls, the same on all machines. Source: asm-generic/unistd.h"""

_CLOEXEC, _SET_STRING, _CREATE = 1, 1, 6
"""Source: linux/mount.h"""


def mount_tmpfs(size: int) -> int:
    """A tmpfs of `size` bytes that is mounted nowhere; the descriptor of its root. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*words: object) -> int:
        made = int(libc.syscall(*words))
        if made < 0:
            raise OSError(ctypes.get_errno(), "a file system cannot be made")
        return made

    try:
        context = call(_FSOPEN, b"tmpfs", _CLOEXEC)
    except OSError as error:
        pytest.skip(f"a small file system cannot be made here: {error.strerror}")
    try:
        call(_FSCONFIG, context, _SET_STRING, b"size", str(size).encode(), 0)
        call(_FSCONFIG, context, _CREATE, None, None, 0)
        return call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def on_full(length: int, data: int) -> Maker:
    """A file of `length` bytes, the first `data` of them PATTERN's, on a tmpfs of 2 MiB."""

    def make(world: World) -> Source:
        root = world.own(mount_tmpfs(2 * MIB))
        fd = world.own(os.open("full", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=root))
        os.pwrite(fd, PATTERN[:data], 0)
        os.truncate(fd, length)
        source = world.add(Source({}, fd, bytearray(PATTERN[:data] + bytes(length - data))))
        (source.ref["handle"],) = world.hand(fd)
        return source

    return make


FULL: Group = (
    "Destinations",
    [
        Case(
            "full while it is copied to (ENOSPC)",
            run("file.copy", {"src": memfd(), "dst": on_full(MIB, MIB)}, ranges=[piece(MIB, 3 * MIB)]),
            End("FAILED", "FUNCTION_ERROR", errno.ENOSPC, no_space("dst"), size_is("dst", MIB)),
            other=True,
        ),
        Case(
            "full while it is filled (ENOSPC)",
            run("mem.fill", {"data": on_full(SIZE, MIB)}, ranges=[piece(MIB, 3 * MIB)], arg={"value": 7}),
            End("DIRTY", "FUNCTION_ERROR", errno.ENOSPC, no_space("data"), dirty_exactly(MIB, 2 * MIB, 7)),
            other=True,
        ),
        Case(
            "full while it is populated",
            run("mem.populate", {"data": on_full(SIZE, MIB)}),
            End(
                "FAILED",
                "FUNCTION_ERROR",
                errno.EFAULT,
                'source "data": bytes … to … cannot be populated: the source became shorter, or its file '
                "system or the pool of huge pages is full",
            ),
            other=True,
        ),
        Case(
            "memory sealed against growing, too short to be copied to",
            run("file.copy", {"src": memfd(), "dst": memfd(4096, seals=F_SEAL_GROW)}),
            End(
                "FAILED",
                "FUNCTION_ERROR",
                errno.EPERM,
                f'source "dst": cannot grow from 4096 to {SIZE} bytes: it is sealed against growing',
            ),
        ),
        Case(
            "memory sealed against shrinking, too long for a whole copy",
            run("file.copy", {"src": memfd(MIB), "dst": memfd(seals=F_SEAL_SHRINK)}),
            End(
                "FAILED",
                "FUNCTION_ERROR",
                errno.EPERM,
                f'source "dst": is sealed against shrinking and cannot be cut from {SIZE} to {MIB} bytes; '
                "name ranges to copy into a part of it",
            ),
        ),
        Case(
            "memory sealed against shrinking, and a part of it copied to",
            run("file.copy", {"src": memfd(MIB), "dst": memfd(seals=F_SEAL_SHRINK)}, ranges=[piece(0, MIB)]),
            Accept("no length changes", copied(0, MIB)),
        ),
    ],
)

GROUPS = [CHANGED, FULL]
