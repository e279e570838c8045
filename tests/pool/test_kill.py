"""A worker that is killed is raised to die soon, and nothing else ever is."""

from __future__ import annotations

import os
import socket
import subprocess

from ktaskd.model.worker import WorkerClass
from ktaskd.pool.link import Worker
from tests.pool.house import Ears, run


def test_worker_when_killed_then_raised_only_while_its_pid_is_its_own() -> None:
    async def story() -> None:
        for reaped in (False, True):
            raised: list[int] = []
            slot = memoryview(bytearray(64)).cast("Q")
            lead = WorkerClass.LEAD
            worker = Worker(1, lead, -1, -1, slot, Ears(), lambda *_: None, raise_=raised.append)
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
