"""The long last step of a compression can be broken off."""

from __future__ import annotations

import os
import time
from pathlib import Path

import ktask

from tests.integration.rig import Daemon

MIB = 1 << 20


def test_cancel_when_the_frames_are_being_moved_then_the_target_is_empty(
    daemon: Daemon, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    noise = os.urandom(MIB)
    source.write_bytes(noise * 256)
    with ktask.connect(daemon.place) as client:
        for _ in range(10):
            target.unlink(missing_ok=True)
            job = client.submit("file.compress", src=source, dst=target, arg={"level": 1})
            while (seen := client.job(job)).state in ("QUEUED", "RUNNING"):
                time.sleep(0.001)  # without it this and the daemon take the CPUs from the workers
            ended = client.cancel(job)
            if seen.state == "COMBINING" and ended.state != "SUCCEEDED":
                break
        assert (ended.state, ended.error.reason if ended.error else "") == ("CANCELLED", "CANCELLED")
        assert target.stat().st_size == 0
