"""The executor behaves like those of concurrent.futures, with workers of a daemon.

CPython's own tests of executors run against it as well, see `cpython`. These tests repeat some of
their cases, since they may not be installed, and add our own.
"""

from __future__ import annotations

import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ktask
import pytest
from ktask.v1.code import RemoteTraceback

from tests.own import things
from tests.own.blocker import Blocker, jobs_left
from tests.support.real_daemon import PATIENCE_S, Daemon, running, starting, until


def jobs_open(executor: ktask.Executor) -> bool:
    """Whether a job exists that would get new calls."""
    return executor._calls._open is not None


# -- submit -------------------------------------------------------------------------


def test_submit_when_called_then_the_result(executor: ktask.Executor) -> None:
    offset = 5
    assert executor.submit(pow, 2, 5).result() == 32
    assert executor.submit(int, "ff", base=16).result() == 255
    assert executor.submit(lambda x: x + offset, 7).result() == 12
    pids = {executor.submit(os.getpid).result() for _ in range(5)}
    assert os.getpid() not in pids


def test_submit_when_large_both_ways_then_whole(executor: ktask.Executor) -> None:
    data = os.urandom(5 << 20)
    futures = [executor.submit(things.reverse, data) for _ in range(4)]
    assert all(future.result() == data[::-1] for future in futures)


def test_submit_when_nothing_waits_then_workers_and_job_are_gone_in_the_end(
    daemon: Daemon, executor: ktask.Executor, short_of_patience: None
) -> None:
    assert executor.submit(things.square, 7).result() == 49
    until(lambda: not jobs_left(daemon), "the job has ended")
    assert not [one for one in threading.enumerate() if one.name == "ktask-calls"]
    with ktask.connect(daemon.place) as client:
        job = next(job for job in client.jobs() if job.function == "python.calls")
    assert job.state == "SUCCEEDED"
    assert executor.submit(things.square, 8).result() == 64


def test_submit_when_one_call_is_long_then_idle_workers_hold_no_cpu(daemon: Daemon, blocker: Blocker) -> None:
    blocker.begin()
    assert blocker.executor.submit(things.square, 7).result() == 49

    def running() -> int:
        (job,) = jobs_left(daemon)
        return job.progress.running_helpers + job.progress.running_leads

    until(lambda: running() == 1, "the idle worker rests")
    assert blocker.executor.submit(things.square, 8).result() == 64
    assert len(blocker.end()) == 1


def test_max_workers_when_one_then_calls_follow_each_other(daemon: Daemon, tmp_path: Path) -> None:
    with ktask.Executor(1, target=daemon.place) as executor:
        assert list(executor.map(things.alone, [tmp_path / "inside"] * 200)) == [True] * 200


def test_max_workers_when_one_call_is_still_that_of_an_ended_job_then_it_counts(
    short_of_patience: None, blocker: Blocker
) -> None:
    blocker.begin()
    until(lambda: not jobs_open(blocker.executor), "the job gets no more calls")
    assert all(blocker.executor.map(things.alone, [blocker.place / "inside"] * 200))
    assert len(blocker.end()) == 1


def test_max_workers_when_none_can_be_then_refused() -> None:
    for count in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            ktask.Executor(count)


# -- failures ------------------------------------------------------------------


def test_exception_when_raised_then_it_with_the_traceback(executor: ktask.Executor) -> None:
    def fail() -> None:
        raise KeyError("as asked")

    error = executor.submit(fail).exception()
    assert isinstance(error, KeyError)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in fail" in str(error.__cause__)
    assert "as asked" in str(error.__cause__)
    assert "in fail" in error.__cause__.tb  # the same attribute as in a pool of processes


def test_exception_when_a_class_method_raises_then_the_traceback_has_its_lines(
    executor: ktask.Executor,
) -> None:
    error = executor.submit(things.Fails.as_asked, 3).exception()
    assert "raise LookupError(number)  # as asked" in str(error.__cause__)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: things.leave(), SystemExit, "3"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt("now")), KeyboardInterrupt, "now"),
        (lambda: (_ for _ in ()).throw(things.Marked("this", "that")), RuntimeError, "Marked: this and that"),
        (lambda: things.raise_it(things.Unspeakable()), RuntimeError, "Unspeakable.*could not be pickled"),
        (lambda: things.WontPickle(), TypeError, "will not be pickled"),
        (lambda: things.WontUnpickle(), ValueError, "will not be unpickled"),
        (lambda: things.ExitsWhereUnpickled(), SystemExit, "5"),
        (things.WontPickle(), TypeError, "will not be pickled"),
        (things.WontUnpickle(), ValueError, "will not be unpickled"),
        ("no function", TypeError, "not callable"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_call_when_it_fails_then_its_future_has_the_error_and_the_next_works(
    executor: ktask.Executor, call: Any, kind: type[BaseException], words: str
) -> None:
    with pytest.raises(kind, match=words):
        executor.submit(call).result()
    assert executor.submit(things.square, 3).result() == 9


@pytest.mark.parametrize("call", [things.die, things.KillsWhereUnpickled()], ids=["in it", "before it"])
def test_worker_when_it_dies_then_one_future_fails(
    executor: ktask.Executor, blocker: Blocker, call: Any
) -> None:
    blocker.begin()
    futures = [executor.submit(call), *(executor.submit(things.square, i) for i in range(20))]
    with pytest.raises(ktask.WorkerLost, match="ended before it had answered") as caught:
        futures[0].result()
    assert isinstance(caught.value, BrokenExecutor)
    assert [future.result() for future in futures[1:]] == [i * i for i in range(20)]
    assert len(blocker.end()) == 1


def test_worker_when_killed_from_outside_then_its_future_fails(blocker: Blocker) -> None:
    first, second = blocker.begin(), blocker.begin()
    os.kill(first, 9)
    with pytest.raises(ktask.WorkerLost, match=f"process {first}"):
        blocker.futures.pop(0).result()
    assert blocker.end() == [second]


def test_workers_when_all_calls_kill_them_then_all_calls_fail_and_the_next_works(
    client: ktask.Client, executor: ktask.Executor
) -> None:
    futures = [executor.submit(things.die) for _ in range(40)]
    assert {type(future.exception()) for future in futures} == {ktask.WorkerLost}
    assert executor.submit(things.square, 3).result() == 9
    errors = [job.error for job in client.jobs(states=["FAILED"], function="python.calls")]
    assert "WORKER_LOST" in [error.reason for error in errors if error]  # 16 deaths in a row ended a job


def test_call_when_it_burns_cpu_for_long_then_it_is_no_hang(executor: ktask.Executor) -> None:
    def burn(seconds: float) -> float:
        until_s = time.thread_time() + seconds
        while time.thread_time() < until_s:
            pass
        return seconds

    assert executor.submit(burn, 1.0).result() == 1.0  # the daemon's patience is 0.3


@contextmanager
def rivals() -> Iterator[None]:
    """Another program wants every CPU, at normal priority."""
    loop = [sys.executable, "-c", "while True: pass"]
    started = [
        subprocess.Popen(["taskset", "-c", str(cpu), *loop], start_new_session=True)
        for cpu in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_call_when_its_helper_is_starved_and_the_lead_only_waits_then_raised(
    client: ktask.Client, executor: ktask.Executor, tmp_path: Path
) -> None:
    client.set_mode("always")
    try:
        futures = [executor.submit(things.burn_if_helper, tmp_path) for _ in range(2)]
        until(lambda: len(list(tmp_path.iterdir())) == 2, "both have begun")
        before = client.status().counters.get("helpers_raised", 0)
        with rivals():
            (tmp_path / "burn").touch()
            until(lambda: any(future.done() for future in futures), "the helper's call is done")
        (tmp_path / "end").touch()
        assert sorted(future.result() for future in futures) == ["helper", "lead"]
        assert client.status().counters.get("helpers_raised", 0) > before
    finally:
        for name in ("burn", "end"):
            (tmp_path / name).touch()
        client.set_mode("auto")


def test_daemon_when_it_is_gone_then_calls_fail_and_with_the_next_one_they_work(tmp_path: Path) -> None:
    place = tmp_path / "d"
    with ktask.Executor(1, target=place) as executor:
        with pytest.raises(ktask.KtaskError, match="No such file"):
            executor.submit(things.square, 2).result()
        for _ in range(2):
            with running(place, "--own-user"):
                assert executor.submit(things.square, 2).result() == 4


def test_daemon_when_it_dies_then_what_it_had_fails(tmp_path: Path) -> None:
    with starting(tmp_path / "d", "--own-user") as daemon, ktask.Executor(1, target=daemon.place) as executor:
        daemon.wait_ready()
        blocker = Blocker(executor, tmp_path)
        blocker.begin()
        waiting = executor.submit(things.square, 2)
        daemon.kill()
        with pytest.raises(ktask.WorkerLost):
            blocker.futures[0].result()
        with pytest.raises(ktask.KtaskError):
            waiting.result()


def test_executor_when_its_thread_dies_then_all_calls_fail(
    executor: ktask.Executor, blocker: Blocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker.begin()
    calls = executor._calls
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(calls, "_check_jobs", lambda: 1 / 0)
    # Neither call can end before the thread has died.
    waiting = executor.submit(things.begin_and_wait, blocker.place / "begun", blocker.place / "go")
    calls._wake()
    for future in (blocker.futures[0], waiting):
        assert isinstance(future.exception(PATIENCE_S), ZeroDivisionError)
    with pytest.raises(RuntimeError, match="its thread has died"):
        executor.submit(things.square, 2)
    (blocker.place / "go").touch()
    for burst in calls._bursts:  # all that would end with the process of a program
        burst.run.cancel()
        burst.close()
        for worker in burst.workers:
            worker.hang_up()
    calls._end_thread()


def test_executor_when_used_in_a_forked_child_then_refused(
    executor: ktask.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: 1)
        with pytest.raises(RuntimeError, match="before this process was forked"):
            executor.submit(things.square, 2)


# -- map ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map_when_called_then_results_in_order(executor: ktask.Executor, chunksize: int) -> None:
    wanted = [pow(i, j) for i, j in zip(range(20), range(15), strict=False)]
    assert list(executor.map(pow, range(20), range(15), chunksize=chunksize)) == wanted


def test_map_when_one_raises_then_there(executor: ktask.Executor) -> None:
    found = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(found), next(found)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(found)
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(pow, [1], [1], chunksize=0)


def test_map_when_over_time_then_timeout_error(blocker: Blocker) -> None:
    blocker.begin()
    blocker.begin()
    with pytest.raises(TimeoutError):
        list(blocker.executor.map(things.square, [1], timeout=0.05))
    blocker.end()


def test_map_when_left_then_the_rest_is_cancelled(executor: ktask.Executor, tmp_path: Path) -> None:
    def call(i: int) -> None:
        (tmp_path / f"{i}").touch()
        while i and not (tmp_path / "go").exists():
            time.sleep(0.005)

    for _ in executor.map(call, range(50)):
        break
    gc.collect()
    (tmp_path / "go").touch()
    executor.shutdown()
    assert len(list(tmp_path.iterdir())) < 20


def test_map_when_functions_are_many_then_each_is_known(executor: ktask.Executor) -> None:
    maps = [executor.map(lambda x, i=i: x + i, range(3)) for i in range(100)]
    again = executor.map(lambda x: -x, range(3))
    assert [list(one) for one in maps] == [[i, i + 1, i + 2] for i in range(100)]
    assert list(again) == [0, -1, -2]


def test_result_when_taken_then_nobody_else_keeps_it(executor: ktask.Executor) -> None:
    for one in executor.map(_marked, range(5)):
        reference = weakref.ref(one)
        del one
        until(lambda: reference() is None, "the result is gone")  # noqa: B023


class Result:
    """A function pickled by reference, of a class in a module."""


def _marked(_: int) -> Result:
    return Result()


# -- other libraries ------------------------------------------------------------------------------


def test_wait_and_as_completed_when_used_then_as_with_any_executor(blocker: Blocker) -> None:
    blocker.begin()
    (slow,) = blocker.futures
    fast = blocker.executor.submit(things.square, 3)
    done, rest = concurrent.futures.wait([slow, fast], return_when=concurrent.futures.FIRST_COMPLETED)
    assert (done, rest) == ({fast}, {slow})
    assert next(concurrent.futures.as_completed([slow, fast])) is fast
    blocker.end()
