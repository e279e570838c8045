"""Processes that a call has started end with its job; those of another job go on."""

from __future__ import annotations

import os
import signal
from multiprocessing import shared_memory
from pathlib import Path

import ktask
import psutil
import pytest

from tests.own import kin, things
from tests.support.real_daemon import PATIENCE_S, Daemon, until


@pytest.mark.parametrize("how", kin.WAYS)
def test_job_when_it_has_left_processes_then_they_have_ended_with_it(
    client: ktask.Client, tmp_path: Path, how: str
) -> None:
    mark = tmp_path / "mark"
    job = client.run(kin.leave_in_chunk, ranges=[(0, 2, -1)], arg=(mark, how), min_chunk=1)
    assert job.state is ktask.JobState.SUCCEEDED
    marks = sorted(tmp_path.iterdir())
    assert marks, "none was made"
    assert all(map(kin.is_free, marks))


def test_job_when_cancelled_then_what_it_has_left_has_ended_with_it(
    client: ktask.Client, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(ktask.JobFailed) as caught:
        client.run(kin.leave_and_stay, ranges=[(0, 1, -1)], arg=(mark, "deaf child"), timeout=3.0)
    assert caught.value.job.state is ktask.JobState.CANCELLED
    assert kin.is_free(mark)


@pytest.mark.parametrize("how", ["daemon", "comet"])
def test_worker_when_it_dies_then_what_it_has_started_ends_and_that_of_others_goes_on(
    daemon: Daemon, tmp_path: Path, how: str
) -> None:
    with ktask.Executor(1, target=daemon.place) as one, ktask.Executor(1, target=daemon.place) as other:
        begun = tmp_path / "begun"
        waiting = other.submit(things.begin_and_wait, begun, tmp_path / "go")
        until(begun.exists, "the call has begun")
        kept, lost = tmp_path / "kept", tmp_path / "lost"
        keeping = ktask.Executor(1, target=daemon.place)
        staying = keeping.submit(stay_beside, kept, tmp_path / "go")
        until(lambda: kept.exists() and not kin.is_free(kept), "the other has left something")
        with pytest.raises(ktask.WorkerLost):
            one.submit(kin.leave_and_die, lost, how).result(PATIENCE_S)
        until(lambda: kin.is_free(lost), "what the dead one has left is gone")
        assert not kin.is_free(kept)
        (tmp_path / "go").touch()
        waiting.result(PATIENCE_S)
        assert staying.result(PATIENCE_S), "what it started lived until its end"
        keeping.shutdown()
        until(lambda: kin.is_free(kept), "its job has ended")


def stay_beside(mark: Path, go: Path) -> bool:
    """Start a daemon, wait for permission to end; return whether the daemon still lives."""
    kin.leave_running(mark, "daemon")
    things.begin_and_wait(mark.with_name("started"), go)
    return not kin.is_free(mark)


def test_process_when_a_call_has_left_it_then_the_next_call_finds_it(
    executor: ktask.Executor, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    assert executor.submit(kin.leave_running, mark, "daemon").result() > 0
    assert not kin.is_free(mark)
    executor.shutdown()
    until(lambda: kin.is_free(mark), "the executor's job has ended")


def test_memory_when_a_call_has_shared_it_then_its_tracker_still_removes_it(executor: ktask.Executor) -> None:
    name = executor.submit(share).result()
    executor.shutdown()
    until(lambda: not Path("/dev/shm", name.lstrip("/")).exists(), "the tracker has removed it")


def share() -> str:
    """Leave shared memory behind, which the tracker of multiprocessing removes."""
    memory = shared_memory.SharedMemory(create=True, size=16)
    _kept.append(memory)
    return memory.name


_kept: list[shared_memory.SharedMemory] = []


def test_daemon_when_killed_then_what_calls_have_left_ends_too(tmp_path: Path) -> None:
    from tests.support.real_daemon import starting

    mark = tmp_path / "mark"
    with starting(tmp_path / "run", "--own-user") as daemon:
        daemon.wait_ready()
        executor = ktask.Executor(1, target=daemon.place)
        future = executor.submit(stay_beside, mark, tmp_path / "never")
        until(lambda: mark.exists() and not kin.is_free(mark), "it has left something")
        tree = psutil.Process(daemon.process.pid).children(recursive=True)
        os.kill(daemon.process.pid, signal.SIGKILL)
        until(lambda: kin.is_free(mark), "it has ended with the daemon")
        with pytest.raises(ktask.KtaskError):
            future.result(PATIENCE_S)
        executor.abort()
        executor.shutdown()
        psutil.wait_procs(tree, PATIENCE_S)
