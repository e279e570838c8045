from __future__ import annotations

import os
import threading

import pytest

from ktaskd.door.handoff.handles import BackgroundCloser, HandleTable, HeldSource
from ktaskd.model.errors import HandleUnknown, QuotaFull
from ktaskd.model.function import Access
from ktaskd.model.source import SourceFacts, SourceKind

FACTS = SourceFacts(
    kind=SourceKind.MEMORY,
    access=Access.READ,
    append=False,
    seals=0,
    size=0,
    page_size=4096,
    device=1,
    inode=1,
    file_system="tmpfs",
    own_offset=False,
)


def new_fd() -> int:
    return os.memfd_create("test", os.MFD_CLOEXEC)


def is_open(fd: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_a_source_is_closed_and_told_of_with_its_last_reference() -> None:
    gone: list[int] = []
    fd = new_fd()
    source = HeldSource(fd, FACTS, 7, on_gone=gone.append)
    source.acquire()
    source.release()
    assert is_open(fd)
    assert not gone
    source.release()
    assert not is_open(fd)
    assert gone == [source.sid]
    with pytest.raises(AssertionError):
        source.release()
    with pytest.raises(AssertionError):
        source.acquire()


def test_every_source_has_its_own_number() -> None:
    sources = [HeldSource(new_fd(), FACTS, 7) for _ in range(10)]
    assert len({source.sid for source in sources}) == 10
    for source in sources:
        source.release()


def test_a_handle_is_128_random_bits_and_only_its_uids() -> None:
    table = HandleTable(per_uid=5)
    handle = table.add(7, 1, new_fd(), FACTS)
    assert len(bytes.fromhex(handle)) == 16
    assert table.resolve(handle, 7).uid == 7
    messages = set()
    for uid, wanted in ((8, handle), (0, handle), (7, handle[:-1]), (7, "")):
        with pytest.raises(HandleUnknown) as caught:
            table.resolve(wanted, uid)
        messages.add(caught.value.message.replace(f'"{wanted}"', ""))
    assert len(messages) == 1
    table.drop_connection(1)
    assert len(table) == 0


def test_handles_end_with_their_connection_but_not_what_a_job_holds() -> None:
    gone: list[int] = []
    table = HandleTable(per_uid=5, on_gone=gone.append)
    held, idle, other = (table.add(7, connection, new_fd(), FACTS) for connection in (1, 1, 2))
    source = table.resolve(held, 7)
    source.acquire()
    idle_source = table.resolve(idle, 7)
    table.drop_connection(1)
    assert gone == [idle_source.sid]
    assert os.fstat(source.fd)
    for handle in (held, idle):
        with pytest.raises(HandleUnknown):
            table.resolve(handle, 7)
    assert table.resolve(other, 7)
    source.release()
    table.drop_connection(2)
    table.drop_connection(2)
    assert len(gone) == 3


def test_only_the_own_connection_drops_a_handle() -> None:
    table = HandleTable(per_uid=5)
    handle = table.add(7, 1, new_fd(), FACTS)
    table.drop(handle, 2)
    table.drop("unknown", 1)
    assert len(table) == 1
    table.drop(handle, 1)
    table.drop(handle, 1)
    assert len(table) == 0


def test_the_cap_counts_per_uid_and_closes_what_is_too_much() -> None:
    table = HandleTable(per_uid=2)
    first = table.add(7, 1, new_fd(), FACTS)
    table.add(7, 1, new_fd(), FACTS)
    table.add(8, 2, new_fd(), FACTS)
    extra = new_fd()
    with pytest.raises(QuotaFull, match="exceed its limit of 2"):
        table.add(7, 1, extra, FACTS)
    assert not is_open(extra)
    table.drop(first, 1)
    table.check_room(7, 1)
    with pytest.raises(QuotaFull):
        table.check_room(7, 2)
    table.drop_connection(1)
    table.drop_connection(2)


def test_many_at_once_have_handles_of_their_own_or_none_has_one() -> None:
    table = HandleTable(per_uid=5)
    fds = [new_fd() for _ in range(4)]
    handles = table.add_all(7, 1, [(fd, FACTS) for fd in fds])
    assert [table.resolve(handle, 7).fd for handle in handles] == fds
    assert len({handle[:16] for handle in handles}) == len({handle[16:] for handle in handles}) == 4
    more = [new_fd() for _ in range(2)]
    with pytest.raises(QuotaFull):
        table.add_all(7, 1, [(fd, FACTS) for fd in more])
    assert not any(map(is_open, more))
    assert (len(table), table.count(7)) == (4, 4)
    table.drop_connection(1)
    assert (len(table), table.count(7)) == (0, 0)


def test_closing_in_the_background_happens_in_another_thread() -> None:
    closer = BackgroundCloser()
    before = threading.active_count()
    table = HandleTable(per_uid=2, close=closer)
    fd = new_fd()
    table.add(7, 1, fd, FACTS)
    table.drop_connection(1)
    assert threading.active_count() == before + 1
    closer.shutdown()
    assert not is_open(fd)
    late = new_fd()
    closer(late)
    assert not is_open(late)


def test_closing_when_no_thread_can_be_started_then_each_is_closed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a number is closed again later, it may belong to another file by then."""

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    closer = BackgroundCloser()
    fd = new_fd()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        closer(fd)
    assert not is_open(fd)
    stranger = new_fd()
    assert stranger == fd
    closer(new_fd())
    closer.shutdown()
    assert is_open(stranger)
    os.close(stranger)


def test_the_cap_counts_what_only_a_job_holds() -> None:
    table = HandleTable(per_uid=2)
    source = table.resolve(table.add(7, 1, new_fd(), FACTS), 7)
    source.acquire()
    table.drop_connection(1)
    assert len(table) == 0
    table.add(7, 2, new_fd(), FACTS)
    with pytest.raises(QuotaFull):
        table.check_room(7, 1)
    table.check_room(8, 2)
    source.release()
    table.check_room(7, 1)
    table.drop_connection(2)
    table.check_room(7, 2)
