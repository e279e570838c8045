"""Workers of an executor stay while no call comes, and cost nothing meanwhile."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import deque

import ktask
import psutil

from tests.own.blocker import jobs_left
from tests.support.real_daemon import PATIENCE_S, Daemon, until

SAME_IN_A_ROW = 30
"""Checks, 0.01 s apart, during which nothing may wake a worker."""


def sleeps(process: psutil.Process) -> None:
    """Wait until nothing wakes a process any more."""
    seen = deque[int](maxlen=SAME_IN_A_ROW)

    def is_quiet() -> bool:
        seen.append(process.num_ctx_switches().voluntary)
        return len(seen) == SAME_IN_A_ROW and len(set(seen)) == 1

    until(is_quiet, "the worker sleeps")


def test_executor_when_idle_then_its_workers_sleep_and_serve_the_next_call(daemon: Daemon) -> None:
    with ktask.Executor(1, target=daemon.place) as executor:
        pid = executor.submit(os.getpid).result()
        for _ in range(3):
            sleeps(psutil.Process(pid))
            (job,) = jobs_left(daemon)
            assert job.progress.running_helpers + job.progress.running_leads == 0
            assert executor.submit(os.getpid).result() == pid


def test_executor_when_nobody_has_it_any_more_then_its_workers_end(daemon: Daemon) -> None:
    executor = ktask.Executor(1, target=daemon.place)
    pid = executor.submit(os.getpid).result()
    sleeps(psutil.Process(pid))
    del executor
    gc.collect()
    until(lambda: not jobs_left(daemon), "its job has ended")
    assert not psutil.pid_exists(pid)


def test_program_when_it_ends_with_an_idle_executor_then_it_waits_for_no_call(daemon: Daemon) -> None:
    program = (
        "import os, sys, ktask\n"
        "executor = ktask.Executor(1, target=sys.argv[1])\n"
        "print(executor.submit(pow, 2, 5).result())\n"
    )
    words = [sys.executable, "-c", program, str(daemon.place)]
    # The test waits for less time than workers are kept.
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "32\n", "")
    until(lambda: not jobs_left(daemon), "its job has ended")
