"""A pool with a real host and real workers, and how it handles their deaths."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.host.sockets.unixsock import FDS_PER_MESSAGE_MAX
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.pool import pool as pool_module
from ktaskd.pool import respawn
from ktaskd.worker import frames
from ktaskd.worker.codec import applied_to_json, facts_to_json
from tests.pool.realpool import PATIENCE_S, WorkerEvents, hang_up, idle, noop, pool, run
from tests.support.sources import facts_of


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_worker_when_spawned_then_ready_idle_and_set_up() -> None:
    async def story() -> None:
        async with pool(3, warm=2) as (made, events):
            assert len(idle(made)) == len(events.ready) == 2
            worker = events.ready[0]
            assert worker.applied.policy == "normal"
            assert alive(worker.pid)
            made.ensure(3)
            made.ensure(9)
            await events.until(lambda: len(events.ready) == 3)
            assert len(set(made.workers)) == 3
            assert len({w.id for w in made.workers}) == 3

    run(story())


def test_spare_worker_when_idle_then_ends_soon_and_no_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SPARE_IDLE_S", 0.01)

    async def story() -> None:
        async with pool(4, warm=1, idle_timeout_s=3600.0, usual=2) as (made, events):
            made.ensure(2)
            await events.until(lambda: len(idle(made)) == 2)
            made.ensure(4)
            await events.until(lambda: len(events.dead) == 2 and len(idle(made)) == 2)

    run(story())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_busy_worker_when_killed_then_status_reported_and_replaced_at_once(number: signal.Signals) -> None:
    async def story() -> None:
        async with pool() as (made, events):
            for deaths in range(1, 6):
                (worker,) = idle(made)
                worker.state = WorkerState.BUSY
                os.kill(worker.pid, number)
                await events.until(lambda n=deaths: len(events.dead) == n)  # type: ignore[misc]
                assert events.dead[-1][0] is worker
                assert events.dead[-1][1].signal == number
                assert str(events.dead[-1][1]) == f"killed by {number.name}"
                assert made.slots[0].early_deaths == 0
                await events.until(lambda: idle(made))
            assert made.slots[0].respawns == 5

    run(story())


def test_worker_when_it_exits_then_its_status_is_reported() -> None:
    async def story() -> None:
        async with pool() as (_made, events):
            # It does not know this kind of frame, and ends.
            events.ready[0]._send(bytes([99]) + bytes(8))
            await events.until(lambda: events.dead)
            death = events.dead[0][1]
            assert str(death) == "exit status 70"
            assert death.signal == 0
            assert death.by_itself

    run(story())


def test_idle_worker_when_it_dies_at_once_then_waits_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(respawn, "STABLE_S", PATIENCE_S)  # on a busy machine a worker may be killed late

    async def story() -> None:
        async with pool() as (made, events):
            for deaths in (1, 2):
                os.kill(idle(made)[0].pid, signal.SIGKILL)
                await events.until(lambda n=deaths: len(events.dead) == n)  # type: ignore[misc]
                assert made.slots[0].early_deaths == deaths
                assert made.slots[0].worker is None, "not at once"
                await events.until(lambda: idle(made))

    run(story())


def test_worker_when_killed_then_its_last_frames_come_before_its_death() -> None:
    async def story() -> None:
        async with pool() as (_made, events):
            worker = events.ready[0]
            noop(worker)
            seqs = [worker.send_chunk(1, i, i + 1) for i in range(20)]
            await events.until(lambda: worker.position[0] == seqs[-1])
            worker.kill()
            await events.until(lambda: events.dead)
            assert [done.seq for done in events.done] == seqs[: len(events.done)]
            assert len(events.done) >= 19
            assert events.dead[0][1].seq == seqs[-1]

    run(story())


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"x",
        bytes([frames.DONE]) + b"short",
        bytes([frames.FAILED]) + bytes(8) + b"{not json",
        bytes([frames.FAILED]) + bytes(8) + b"[1]",
        bytes([frames.FAILED]) + bytes(8) + b"\xff\xfe",
        frames.pack_note(frames.READY, 0, {"cpulist": "x"}),
        frames.pack_note(frames.READY, 0),
    ],
)
def test_worker_when_it_sends_what_is_no_frame_then_killed(frame: bytes) -> None:
    async def story() -> None:
        async with pool() as (made, events):
            events.ready[0]._on_frame(frame)
            await events.until(lambda: events.dead)
            assert events.dead[0][1].signal == signal.SIGKILL
            await events.until(lambda: idle(made))

    run(story())


@pytest.mark.parametrize("state", [WorkerState.IDLE, WorkerState.BUSY])
def test_worker_when_it_says_twice_that_it_is_ready_then_killed_and_given_nothing(state: WorkerState) -> None:
    """Code that is not ours could have its worker given the work, and the files, of another user."""

    async def story() -> None:
        async with pool() as (_made, events):
            worker = events.ready[0]
            worker.state = state
            worker._on_frame(frames.pack_note(frames.READY, 0, applied_to_json(worker.applied)))
            await events.until(lambda: events.dead)
            assert events.dead[0][1].signal == signal.SIGKILL
            assert events.ready.count(worker) == 1

    run(story())


def test_worker_when_it_closes_its_line_and_lives_then_killed() -> None:
    """A function that closes a descriptor that is not its own would hang its job forever."""

    async def story() -> None:
        async with pool() as (_made, events):
            worker = events.ready[0]
            os.kill(worker.pid, signal.SIGSTOP)
            assert worker._sock is not None
            worker._sock.shutdown(socket.SHUT_RD)
            await events.until(lambda: events.dead)
            assert events.dead[0][1].signal == signal.SIGKILL

    run(story())


def test_worker_when_it_does_not_read_then_all_is_kept_and_arrives_in_order() -> None:
    async def story() -> None:
        async with pool() as (_made, events):
            worker = events.ready[0]
            os.kill(worker.pid, signal.SIGSTOP)
            fds = len(os.listdir("/proc/self/fd"))
            source = os.memfd_create("test", os.MFD_CLOEXEC)
            os.write(source, b"abc")
            items = [HeldSource(source, facts_of(source), 0) for _ in range(1500)]
            for item in items:
                worker.send_source(item.sid, {"facts": facts_to_json(item.facts)}, source)
            assert not worker._outbox.is_empty
            assert len(os.listdir("/proc/self/fd")) > fds + 1, "each that waits has a descriptor"
            spec = {"function": "file.crc32", "arg": {}, "sources": {}, "span": [0, 1500], "whole": True}
            worker.send_job(1, spec)
            worker.send_items(1, 1490, items[1490:])
            worker.send_chunk(1, 1490, 1500)
            noop(worker, 2)
            last = [worker.send_chunk(2, i, i + 1) for i in range(50)]
            os.close(source)
            os.kill(worker.pid, signal.SIGCONT)
            await events.until(lambda: len(events.done) == 51)
            assert [done.seq for done in events.done] == [1, *last]
            assert events.done[0].reached == 1500
            assert not events.reports
            assert worker._outbox.is_empty
            worker.forget_items(item.sid for item in items)
            assert not worker.sids
            await events.until(lambda: len(os.listdir(f"/proc/{worker.pid}/fd")) < 20)
            assert len(os.listdir("/proc/self/fd")) == fds

    run(story())


def test_worker_when_it_dies_with_descriptors_unsent_then_they_are_closed() -> None:
    async def story() -> None:
        async with pool() as (_made, events):
            worker = events.ready[0]
            os.kill(worker.pid, signal.SIGSTOP)
            source = os.memfd_create("test", os.MFD_CLOEXEC)
            body = {"facts": facts_to_json(facts_of(source))}
            for sid in range(1, 1001):
                worker.send_source(sid, body, source)
            assert not worker._outbox.is_empty
            worker.send_items(1, 0, [HeldSource(source, facts_of(source), 0) for _ in range(253)])
            os.close(source)
            worker.kill()
            await events.until(lambda: events.dead)
            assert worker._outbox.is_empty
            worker.send_source(2000, body, -1)
            worker.send_chunk(1, 0, 1)
            assert worker._outbox.is_empty, "nothing is kept for the dead"

    run(story())


def test_worker_when_sent_items_then_each_source_goes_along_once_and_is_forgotten() -> None:
    async def story() -> None:
        async with pool() as (_made, events):
            worker = events.ready[0]
            source = os.memfd_create("test", os.MFD_CLOEXEC)
            os.write(source, b"abc")
            items = [HeldSource(source, facts_of(source), 0) for _ in range(FDS_PER_MESSAGE_MAX)]
            role = items[0]
            worker.send_source(role.sid, {"facts": facts_to_json(role.facts)}, source)
            sources = {"data": role.sid}
            spec = {"function": "file.crc32", "arg": {}, "sources": sources, "span": [0, 600], "whole": True}
            worker.send_job(1, spec)
            for start in (0, 300):
                worker.send_items(1, start, items)
                worker.send_chunk(1, start, start + len(items))
            worker.send_items(1, 600, [items[0]] * 3)
            worker.send_chunk(1, 600, 603)
            await events.until(lambda: len(events.done) == 3)
            assert [done.reached for done in events.done] == [253, 553, 603]
            assert worker.sids == {item.sid for item in items}
            worker.forget_items(item.sid for item in items)
            worker.forget_items(item.sid for item in items)
            assert worker.sids == {role.sid}, "a job needs it"
            await events.until(lambda: len(os.listdir(f"/proc/{worker.pid}/fd")) < 20)
            os.close(source)

    run(story())


# -- the pool host -------------------------------------------------------------------


def test_host_when_killed_then_its_workers_die_and_all_are_started_again() -> None:
    async def story() -> None:
        async with pool(2) as (made, events):
            host, pids = made.host_pid, [worker.pid for worker in made.workers]
            os.kill(host, signal.SIGKILL)
            await events.until(lambda: len(events.dead) == 2)
            assert not any(alive(pid) for pid in pids)
            await events.until(lambda: len(idle(made)) == 2)
            assert made.host_pid != host
            assert made.host_respawns == 1
            assert not {worker.pid for worker in made.workers} & set(pids)

    run(story())


def test_host_when_killed_again_and_again_then_its_workers_never_wait_longer() -> None:
    async def story() -> None:
        async with pool(2) as (made, events):
            for _ in range(6):
                os.kill(made.host_pid, signal.SIGKILL)
                events.dead.clear()
                await events.until(lambda: len(events.dead) == 2)
                await events.until(lambda: len(idle(made)) == 2)
            assert [slot.early_deaths for slot in made.slots] == [0, 0]

    run(story())


def test_host_when_its_daemon_goes_then_kills_and_reaps_every_worker() -> None:
    async def story() -> None:
        async with pool(2) as (made, events):
            pids = [worker.pid for worker in made.workers]
            # A worker that is stopped would never see an end of file.
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            host = made.host_pid
            hang_up(made)
            await events.until(lambda: not alive(host))
            assert not any(alive(pid) for pid in pids)
            await events.until(lambda: len(events.dead) == 2)

    run(story())


def test_host_when_it_cannot_be_started_then_tried_again_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr("sys.executable", "/bin/false")
        events = WorkerEvents()
        made = pool_module.Pool(
            pool_module.PoolSpec("test", WorkerClass.LEAD, -1, (0,), 1, 1), events, iter(range(99)).__next__
        )
        made.start()
        await events.until(lambda: made.host_respawns == 2)
        assert made._host.early_deaths == 2
        monkeypatch.undo()
        await events.until(lambda: events.ready)
        await made.close(10.0)

    run(story())


def test_processes_when_looked_at_then_none_has_grpc() -> None:
    """Guards: I13"""

    async def story() -> None:
        async with pool(1) as (made, events):
            for pid in (made.host_pid, events.ready[0].pid):
                maps = Path(f"/proc/{pid}/maps").read_text()
                assert "python" in maps
                assert "grpc" not in maps

    run(story())


@pytest.mark.parametrize("stopped", [False, True])
def test_pool_when_closed_then_nothing_is_left_even_of_the_stopped(stopped: bool) -> None:
    async def story() -> None:
        async with pool(2) as (made, events):
            pids = [made.host_pid, *(worker.pid for worker in made.workers)]
            if stopped:
                for pid in pids[1:]:
                    os.kill(pid, signal.SIGSTOP)
        assert not any(alive(pid) for pid in pids)
        assert len(events.dead) == 2

    run(story())


def test_pool_when_closed_while_starting_then_nothing_is_left() -> None:
    async def story() -> None:
        async with pool(3, warm=0) as (made, _ears):
            made.ensure(3)
            await asyncio.sleep(0)

    run(story())
