"""The client still shares a descriptor that it handed over, and can change flags and length during a job.

Tests: ktaskd/host/files/writing.py, ktaskd/functions/quanta.py
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ktaskd.functions import bodies
from ktaskd.functions.body import Body, Context
from ktaskd.host.files.writing import RWF_NOAPPEND
from ktaskd.worker.sources import Source
from tests.functions.inprocess import MIB, Recorder, content, context_of, opened, prepare

SIZE = 6 * MIB

Work = tuple[str, dict[str, int | str]]

WRITERS: dict[str, Work] = {
    "mem.fill": ("data", {"value": 7}),
    "mem.pattern": ("data", {"record": "07", "index_at": -1, "index_bytes": 8, "index_first": 0}),
    "array.map": ("data", {"dtype": "uint8", "ufunc": "add", "operand": "7"}),
    "file.copy": ("dst", {}),
    "file.copy checksum": ("dst", {"checksum": 1}),
}
"""By function: the role that is written, and arguments that set every byte of it to 7."""


def set_append(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def kernel_ignores_append() -> bool:
    """Whether the kernel has RWF_NOAPPEND: Linux 6.9 or newer."""
    fd = os.memfd_create("probe")
    try:
        return os.pwritev(fd, [b"x"], 0, RWF_NOAPPEND) == 1
    except OSError:
        return False
    finally:
        os.close(fd)


def at_quantum(count: int, change: Callable[[], object]) -> Recorder:
    """Calls a function between two quanta."""
    seen: list[int] = []

    def on_quantum(position: int) -> None:
        seen.append(position)
        if len(seen) == count:
            change()

    return Recorder(on_quantum=on_quantum)


def made(name: str, src: Source, target: Source, *, whole: bool = False) -> tuple[Body, Context]:
    """A body, and a context in which it writes SIZE bytes of `target`."""
    role, arg = WRITERS[name]
    sources = {role: target} | ({"src": src} if role == "dst" else {})
    return bodies.find(name.split()[0]), context_of((0, SIZE), whole=whole, arg=dict(arg), **sources)


@pytest.mark.parametrize("kind", ["memfd", "shm", "file"])
@pytest.mark.parametrize("name", WRITERS)
def test_writer_when_o_append_is_set_meanwhile_then_every_byte_at_its_position(
    name: str, kind: str, tmp_path: Path
) -> None:
    with opened("file", tmp_path, name="src") as src, opened(kind, tmp_path, name="target") as target:
        os.pwrite(src.fd, b"\x07" * SIZE, 0)
        os.pwrite(target.fd, bytes(SIZE), 0)
        body, context = made(name, src, target)
        prepared = prepare(body, context)
        control = at_quantum(2, lambda: set_append(target.fd))
        if not kernel_ignores_append():
            with pytest.raises(OSError, match="has O_APPEND set, and Linux before"):
                body.run(context, 0, SIZE, control)
            assert target.size() == SIZE
            return
        reached, _ = body.run(context, 0, SIZE, control)
        assert reached == SIZE
        body.finish(context, prepared, Recorder())
        assert content(target) == b"\x07" * SIZE


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", WRITERS)
def test_writer_when_its_target_is_cut_meanwhile_then_an_error_and_nothing_is_made_long_again(
    name: str, last: bool, tmp_path: Path
) -> None:
    with opened("file", tmp_path, name="src") as src, opened("file", tmp_path, name="target") as target:
        os.pwrite(src.fd, b"\x07" * SIZE, 0)
        os.pwrite(target.fd, bytes(SIZE), 0)
        body, context = made(name, src, target)
        prepare(body, context)
        count = len(_positions(name, tmp_path)) if last else 2
        with pytest.raises(
            OSError, match=r'source "\w+": ends at 5, but the job needs bytes up to'
        ) as caught:
            body.run(context, 0, SIZE, at_quantum(count, lambda: os.ftruncate(target.fd, 5)))
        assert caught.value.errno == errno.ENODATA
        assert target.size() == 5


def _positions(name: str, tmp_path: Path) -> list[int]:
    """The positions at which an undisturbed run calls control."""
    with opened("file", tmp_path, name="src2") as src, opened("file", tmp_path, name="target2") as target:
        os.ftruncate(src.fd, SIZE)
        os.ftruncate(target.fd, SIZE)
        body, context = made(name, src, target)
        control = Recorder()
        body.run(context, 0, SIZE, control)
        return control.positions


@pytest.mark.parametrize("size", [5, SIZE + 5])
def test_copy_when_its_target_has_another_length_at_the_end_then_that_is_the_error(
    size: int, tmp_path: Path
) -> None:
    with opened("file", tmp_path, name="src") as src, opened("file", tmp_path, name="target") as target:
        os.pwrite(src.fd, b"\x07" * SIZE, 0)
        body, context = made("file.copy", src, target, whole=True)
        prepared = prepare(body, context)
        body.run(context, 0, SIZE, Recorder())
        os.ftruncate(target.fd, size)
        with pytest.raises(OSError, match=f'source "dst": .* it is {size} bytes long instead of {SIZE}'):
            body.finish(context, prepared, Recorder())
        assert target.size() == size


def test_populate_when_it_cannot_be_mapped_then_nothing_is_to_be_undone(tmp_path: Path) -> None:
    end = (1 << 63) - 1
    with opened("memfd", tmp_path) as source:
        os.ftruncate(source.fd, end)
        control = Recorder()
        with pytest.raises(OSError, match=r'source "data": .*cannot be mapped'):
            bodies.find("mem.populate").run(
                context_of((end - 4095, end), data=source), end - 4095, end, control
            )
        assert max(control.positions) == end - 4095


def test_punch_when_it_is_forbidden_then_nothing_is_dirty(tmp_path: Path) -> None:
    with opened("memfd", tmp_path) as source:
        os.ftruncate(source.fd, SIZE)
        fcntl.fcntl(source.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        control = Recorder()
        with pytest.raises(OSError, match="operation not permitted"):
            bodies.find("file.punch").run(context_of((0, SIZE), data=source), 0, SIZE, control)
        assert max(control.positions) == 0


ITEMS: dict[str, dict[str, int | str]] = {
    "file.crc32": {},
    "file.sha256": {},
    "file.manifest": {"algorithm": "sha256"},
    "text.search": {"pattern": "x", "regex": 0, "ignore_case": 0, "show": "count", "limit": 1},
}


@pytest.mark.parametrize("how", ["warn", "fail"])
@pytest.mark.parametrize("name", ITEMS)
def test_item_when_it_changes_while_it_is_read_then_its_result_says_so_or_the_chunk_fails(
    name: str, how: str, tmp_path: Path
) -> None:
    with opened("file", tmp_path) as still, opened("memfd", tmp_path) as moving:
        for source in (still, moving):
            os.pwrite(source.fd, b"line\n" * MIB, 0)
        context = context_of((0, 2), arg={**ITEMS[name], "changed": how})
        context.items = {0: still, 1: moving}
        body = bodies.find(name)
        changes: list[int] = []

        def on_quantum(position: int) -> None:
            if position == 1:
                changes.append(os.pwrite(moving.fd, b"x", len(changes)))

        if how == "fail":
            with pytest.raises(OSError, match=r'source "items\[1\]": changed while it was read: somebody'):
                body.run(context, 0, 2, Recorder(on_quantum=on_quantum))
            return
        reached, part = body.run(context, 0, 2, Recorder(on_quantum=on_quantum))
        assert part is not None
        first, second = part["items"]
        assert (reached, "changed" in first, second["changed"]) == (2, False, "somebody wrote to it")


def test_item_when_it_is_given_back_and_changes_before_it_goes_on_then_its_result_says_so(
    tmp_path: Path,
) -> None:
    with opened("file", tmp_path) as source:
        os.pwrite(source.fd, bytes(8 * MIB), 0)
        context = context_of((0, 1), arg={"changed": "warn"})
        context.items = {0: source}
        body = bodies.find("file.sha256")
        assert body.run(context, 0, 1, Recorder(stop_after=3))[0] == 0
        os.pwrite(source.fd, b"x", 0)
        reached, part = body.run(context, 0, 1, Recorder())
        assert part is not None
        assert (reached, part["items"][0]["changed"]) == (1, "somebody wrote to it")
