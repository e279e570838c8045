"""A chunk whose first write is refused reports that nothing has changed.

Tests: ktaskd/functions/quanta.py, ktaskd/functions/failures.py
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Body
from ktaskd.functions.own import run as own
from ktaskd.worker.sources import Source
from tests.functions.inprocess import Recorder, context_of
from tests.support.sources import facts_of

SIZE = 64 << 10

FUNCTIONS: list[tuple[str, dict[str, Any]]] = [
    ("mem.fill", {"value": 1}),
    ("array.map", {"dtype": "uint8", "ufunc": "invert", "operand": ""}),
    ("file.punch", {}),
]


@contextmanager
def source_of(path: Path, flags: int) -> Iterator[Source]:
    """A file that a worker considers writable, whatever `flags` are."""
    path.write_bytes(b"x" * SIZE)
    fd = os.open(path, flags)
    source = Source(fd, facts_of(fd))
    try:
        yield source
    finally:
        source.close()


@pytest.mark.parametrize(("name", "arg"), FUNCTIONS)
def test_chunk_when_its_first_write_is_refused_then_no_position_is_reached(
    tmp_path: Path, name: str, arg: dict[str, Any]
) -> None:
    body: Body = find(name)
    with source_of(tmp_path / "f", os.O_RDONLY) as source:
        control = Recorder()
        with pytest.raises(OSError, match=r'source "data": ') as caught:
            body.run(context_of((0, SIZE), arg=arg, data=source), 0, SIZE, control)
        assert caught.value.errno == errno.EBADF
        assert control.positions[-1] == 0
        assert os.pread(source.fd, SIZE, 0) == b"x" * SIZE


def test_fill_when_o_direct_does_not_take_it_then_no_position_is_reached() -> None:
    path = Path(f"/var/tmp/ktaskd-test-{os.getpid()}")
    with source_of(path, os.O_RDWR | os.O_DIRECT) as source:
        path.unlink()
        control = Recorder()
        context = context_of((1, 4097), arg={"value": 1}, data=source)
        try:
            find("mem.fill").run(context, 1, 4097, control)
        except OSError:
            assert control.positions[-1] == 1
        else:
            pytest.skip("this file system takes any write with O_DIRECT")


@pytest.mark.parametrize("write", [False, True])
def test_own_function_when_it_raises_then_touched_only_if_it_could_have_written(
    tmp_path: Path, write: bool
) -> None:
    with source_of(tmp_path / "f", os.O_RDWR) as source:
        data = own.Data(source, write=True)
        data.read(0, 10)
        len(data)
        assert not data.touched
        if write:
            data.write(0, b"y")
            assert data.touched
        else:
            data.fileno()
            assert data.touched
        reader = own.Data(source, write=False)
        reader.fileno()
        reader.view(0, 5).release()
        assert not reader.touched
