"""Sources of a job are handed over, kept and given back."""

from __future__ import annotations

import errno
import gc
import socket
import zlib
from pathlib import Path
from typing import Any

import ktask
import pytest
from ktask.link.waited import OnJob, WaitedJob
from ktask.v1 import handoff as wire
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon


def test_run_when_on_memory_then_worked_on_in_place_and_handed_over_once(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with ktask.memory(5000) as m:
        job = client.run("mem.fill", arg={"value": 7}, data=m)
        assert isinstance(job, ktask.Job)
        assert job.state is ktask.JobState.SUCCEEDED
        assert m[:] == b"\7" * 5000
        assert client.run("file.crc32", data=m).result == {"crc32": zlib.crc32(b"\7" * 5000)}
        assert (fake.handoff.hands, fake.handoff.held) == (1, 1)
        assert fake.handoff.flags == [wire.OWN_OFFSET]
    assert fake.handoff.held == 0


def test_hand_over_when_too_many_descriptors_are_on_their_way_then_sent_again(
    fake: FakeDaemon, client: ktask.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals, real = [OSError(errno.ETOOMANYREFS, "too many")] * 3, socket.send_fds

    def send_fds(sock: socket.socket, data: list[bytes], fds: list[int]) -> int:
        if refusals:
            raise refusals.pop()
        return real(sock, data, fds)

    monkeypatch.setattr(socket, "send_fds", send_fds)
    with ktask.memory(10) as m:
        assert client.run("file.crc32", data=m).result == {"crc32": zlib.crc32(bytes(10))}
        assert (fake.handoff.hands, refusals) == (1, [])


@pytest.mark.slow
def test_memory_when_gone_without_a_close_then_the_daemon_gives_it_back(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    m = ktask.memory(10)
    client.run("file.crc32", data=m)
    assert fake.handoff.held == 1
    del m
    gc.collect()
    assert fake.handoff.held == 0


def test_memory_when_two_clients_use_it_then_both_give_it_back(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with ktask.connect(fake.directory) as other, ktask.memory(10) as m:
        assert client.run("file.crc32", data=m).result == other.run("file.crc32", data=m).result
        assert fake.handoff.held == 2
        m.close()
        assert fake.handoff.held == 0
        with pytest.raises(ValueError, match="closed"):
            client.run("file.crc32", data=m)


def test_run_when_by_path_then_opened_here_and_given_back(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    source, target = tmp_path / "src", tmp_path / "dst"
    source.write_bytes(b"some bytes")
    client.run("file.copy", src=source, dst=str(target))
    assert target.read_bytes() == b"some bytes"
    assert fake.handoff.held == 0
    assert all(one.WhichOneof("from") == "handle" for one in fake.specs[0].sources.values())


def test_run_when_a_source_is_missing_then_the_target_is_not_made(
    client: ktask.Client, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        client.run("file.copy", dst=tmp_path / "dst", src=tmp_path / "no")
    assert str(caught.value.filename) == str(tmp_path / "no")
    assert not (tmp_path / "dst").exists()


def test_run_when_given_something_open_then_flushed_and_its_offset_left_alone(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    with open(tmp_path / "a", "wb+") as f:
        f.write(b"in the buffer")
        assert client.run("file.crc32", data=f).result == {"crc32": zlib.crc32(b"in the buffer")}
        assert f.tell() == 13
    assert fake.handoff.flags == [0]
    assert fake.handoff.held == 0


def test_run_when_over_items_then_all_are_handed_over_and_given_back(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    texts = [b"%d" % i for i in range(40)]
    items: list[Any] = []
    for text in texts:
        items.append(tmp_path / text.decode())
        items[-1].write_bytes(text)
    with ktask.memory(3) as m, ktask.file(items[1]) as f:
        m[:] = b"abc"
        items[0], items[1] = m, f
        result = client.run("file.crc32", items=iter(items)).result
        assert result == {"items": [{"crc32": zlib.crc32(text)} for text in [b"abc", *texts[1:]]]}
        assert fake.handoff.held == 2
    assert fake.handoff.held == 0


def test_ranges_when_on_memory_then_the_contracts_node_and_on_files_any(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    def nids() -> list[int | None]:
        return [one.nid if one.HasField("nid") else None for one in fake.specs[-1].ranges]

    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    ranges = [(0, 10), (10, 10, 0)]
    with ktask.memory(100) as m, ktask.file(path) as f, open(path, "rb") as g:
        client.run("file.crc32", data=m, ranges=ranges)
        assert nids() == [None, 0]
        for source in (f, g, path):
            client.run("file.crc32", data=source, ranges=ranges)
            assert nids() == [-1, 0]
        client.run("file.copy", src=m, dst=path, ranges=ranges)
        assert nids() == [-1, 0]
        client.run("file.crc32", data=f)
        assert nids() == []


def test_run_when_a_handle_is_given_then_it_is_named_as_it_is(fake: FakeDaemon, client: ktask.Client) -> None:
    with pytest.raises(ktask.KtaskError) as caught:
        client.run("file.crc32", data=ktask.Handle("0" * 32))
    assert caught.value.reason == "HANDLE_UNKNOWN"
    assert fake.specs[0].sources["data"].handle == "0" * 32
    assert fake.calls.count("Run") == 1


def test_run_when_the_handoff_connection_broke_then_handed_over_again(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with ktask.memory(10) as m:
        client.run("file.crc32", data=m)
        fake.handoff.cut()
        client.run("file.crc32", data=m)
        assert fake.handoff.hands == 2


def test_run_when_its_handles_died_unnoticed_then_tried_once_more(
    fake: FakeDaemon, client: ktask.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handoff connection breaks after the sources were handed over, before the call."""

    class CutFirst(WaitedJob):
        def wait(self, on_job: OnJob | None) -> pb.Job:
            monkeypatch.undo()
            fake.handoff.cut()
            fake.handoff.wait_until_held(0)
            return super().wait(on_job)

    monkeypatch.setattr("ktask.link.session.WaitedJob", CutFirst)
    with ktask.memory(10) as m:
        assert client.run("file.crc32", data=m).result == {"crc32": zlib.crc32(bytes(10))}
    assert fake.calls.count("Run") == 2


def test_run_when_the_keeper_refuses_then_its_reason_and_no_job(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    fake.handoff.refuse = wire.Refused(0, "FD_UNSUITABLE", "descriptor 0: on a network", 0)
    with ktask.memory(10) as m, pytest.raises(ktask.KtaskError, match="on a network") as caught:
        client.run("file.crc32", data=m)
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "FD_UNSUITABLE")
    assert caught.value.metadata == {"index": "0"}
    assert not fake.specs
