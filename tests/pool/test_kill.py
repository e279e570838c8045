"""A worker that is killed is raised to die soon, and nothing else ever is.

Tests: ktaskd/pool/link.py
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess

import pytest

from ktaskd.model.worker import WorkerClass
from ktaskd.pool.death import Death
from ktaskd.pool.link import Worker, WorkerHooks
from ktaskd.pool.seat import Seat
from ktaskd.worker import frames
from ktaskd.worker.frames import Done
from tests.pool.realpool import WorkerEvents, run


def test_worker_when_killed_then_raised_only_while_its_pid_is_its_own() -> None:
    async def story() -> None:
        for reaped in (False, True):
            raised: list[int] = []
            seat = Seat(WorkerClass.LEAD, -1, -1, memoryview(bytearray(64)).cast("Q"))
            worker = Worker(1, seat, WorkerEvents(), WorkerHooks(lambda *_: None, raise_=raised.append))
            ours, theirs = socket.socketpair()
            with theirs, subprocess.Popen(["sleep", "60"]) as process:
                worker.attach(process.pid, ours, os.pidfd_open(process.pid))
                if reaped:
                    process.kill()
                    process.wait()
                worker.kill()
                worker.kill()
                assert raised == ([] if reaped else [process.pid])
            worker.set_exit_status(9)
            worker._finish_death()

    run(story())


class Deaf(WorkerEvents):
    """A listener with a bug."""

    def on_done(self, worker: Worker, done: Done) -> None:
        raise ZeroDivisionError("a bug")


def test_worker_when_a_listener_fails_at_its_last_frames_then_its_death_is_still_reported_once() -> None:
    async def story() -> None:
        bugs: list[BaseException | None] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: bugs.append(context.get("exception")))
        dead: list[Death] = []
        seat = Seat(WorkerClass.LEAD, -1, -1, memoryview(bytearray(64)).cast("Q"))
        events = Deaf()
        worker = Worker(1, seat, events, WorkerHooks(lambda _, death: dead.append(death)))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, subprocess.Popen(["sleep", "60"]) as process:
            process.kill()
            process.wait()
            theirs.send(frames.pack_done(1, 0, 0, b""))
            theirs.send(frames.pack_done(1, 0, 0, b""))
            worker.attach(process.pid, ours, os.pidfd_open(os.getpid()))
            loop.remove_reader(ours.fileno())  # its last frames are read when its death is seen
            with pytest.raises(ZeroDivisionError):
                worker._on_pidfd()
            worker.set_exit_status(9)
        assert [death.status for death in dead] == [9]
        assert not bugs

    run(story())
