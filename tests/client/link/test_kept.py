"""Memory behind objects of other types is handed over once, and never taken for other memory."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ktask
import pytest
from ktask.link import kept
from ktask.link.kept import OBJECTS_MAX, KeptObjects, identity_of

from tests.client.fake import FakeDaemon


def memfd(text: bytes) -> Any:
    file = os.fdopen(os.memfd_create("test", os.MFD_CLOEXEC), "r+b", buffering=0)
    file.write(text)
    return file


def summed(client: ktask.Client, source: Any) -> int:
    result = client.run("file.crc32", data=source).result
    assert result is not None
    return int(result["crc32"])


def test_object_when_used_again_then_handed_over_once_until_it_is_gone(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with memfd(b"abc") as file:
        for _ in range(3):
            assert summed(client, file) == zlib.crc32(b"abc")
        file.write(b"def")
        assert summed(client, file) == zlib.crc32(b"abcdef")
        assert (fake.handoff.hands, fake.handoff.held) == (1, 1)
    del file
    gc.collect()
    assert fake.handoff.held == 0


def test_object_when_closed_and_not_collected_then_given_back_with_the_next_job(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with memfd(b"abc") as closed, memfd(b"other") as other:
        summed(client, closed)
        closed.close()
        assert summed(client, other) == zlib.crc32(b"other")
        assert fake.handoff.held == 1
        with pytest.raises(ValueError, match="closed"):
            summed(client, closed)


def test_object_when_closed_then_given_back_with_the_next_job_on_a_path(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    (tmp_path / "named").write_bytes(b"text")
    with memfd(b"abc") as closed:
        summed(client, closed)
    summed(client, tmp_path / "named")
    assert fake.handoff.held == 0


def test_object_when_many_others_come_before_its_job_then_its_handle_is_still_known(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with contextlib.ExitStack() as end:
        files = [end.enter_context(memfd(b"%d" % i)) for i in range(OBJECTS_MAX + 5)]
        handover = client._session.handover
        first = handover.handle_of_object(files[0], files[0].fileno())
        for file in files[1:]:
            assert summed(client, file)
        assert first == handover.handle_of_object(files[0], files[0].fileno())
        assert (fake.handoff.hands, fake.handoff.held) == (len(files), OBJECTS_MAX)


class Changing:
    """An object whose descriptor is another one after a while."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


def test_object_when_its_number_is_of_other_memory_then_handed_over_again(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with memfd(b"first") as first, memfd(b"second") as second:
        source = Changing(os.dup(first.fileno()))
        assert summed(client, source) == zlib.crc32(b"first")
        os.dup2(second.fileno(), source.fd, inheritable=False)
        assert summed(client, source) == zlib.crc32(b"second")
        assert (fake.handoff.hands, fake.handoff.held) == (2, 1)
        os.close(source.fd)


def test_object_when_its_descriptor_is_open_in_another_way_then_handed_over_again(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with memfd(b"text") as file:
        source = Changing(os.dup(file.fileno()))
        summed(client, source)
        again = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(again, source.fd, inheritable=False)
        summed(client, source)
        assert fake.handoff.hands == 2
        os.close(again)
        os.close(source.fd)


def test_object_when_of_a_file_then_not_kept(fake: FakeDaemon, client: ktask.Client, tmp_path: Path) -> None:
    (tmp_path / "named").write_bytes(b"text")
    with (tmp_path / "named").open("rb") as named:
        summed(client, named)
        assert identity_of(named.fileno()) is None
    assert fake.handoff.held == 0


class Slotted:
    """An object whose end cannot be noticed."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


def test_object_when_its_end_cannot_be_noticed_then_not_kept(fake: FakeDaemon, client: ktask.Client) -> None:
    with memfd(b"text") as file:
        assert summed(client, Slotted(file.fileno())) == zlib.crc32(b"text")
    assert fake.handoff.held == 0


def test_object_when_the_connection_broke_then_handed_over_again(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with memfd(b"text") as file:
        summed(client, file)
        fake.handoff.cut()
        assert summed(client, file) == zlib.crc32(b"text")
        assert fake.handoff.hands == 2


# -- the books ------------------------------------------------------------------------------


@pytest.fixture
def books() -> Iterator[KeptObjects]:
    made = KeptObjects()
    yield made
    made.clear()


def nothing() -> None:
    """Called for objects that are collected."""


def test_books_when_full_then_there_is_room_once_an_object_is_closed(books: KeptObjects) -> None:
    sources = [io.BytesIO() for _ in range(OBJECTS_MAX)]
    for i, source in enumerate(sources):
        assert not books.is_full
        books.add(source, (i,), f"handle {i}", nothing)
    assert books.is_full
    sources[3].close()
    assert not books.is_full
    assert books.take_stale() == ["handle 3"]
    assert books.take_stale() == []


def test_books_when_an_object_is_collected_then_given_back_once(books: KeptObjects) -> None:
    gone: list[str] = []
    books.add(io.BytesIO(), (1,), "handle", lambda: gone.append("handle"))
    gc.collect()
    assert (gone, books.take_stale()) == (["handle"], [])


def test_books_when_equal_objects_are_asked_for_then_each_is_its_own(books: KeptObjects) -> None:
    class Equal(Changing):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    one, other = Equal(1), Equal(1)
    books.add(one, (1,), "one", nothing)
    assert books.find(other, (1,)) is None
    assert books.find(one, (1,)) == "one"


def test_may_be_kept_when_asked_then_only_what_can_be_referenced_weakly() -> None:
    assert kept.may_be_kept(io.BytesIO())
    assert not kept.may_be_kept(Slotted(0))
