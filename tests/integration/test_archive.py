"""The long last steps: frames are moved, and what a wrong seek table has misplaced is written again."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ktask
import pytest
import zstandard

from tests.fault.armed_faults import ArmedFaults, armed_faults
from tests.support.real_daemon import Daemon, running, until

MIB = 1 << 20


def test_cancel_when_the_frames_are_being_moved_then_the_target_is_empty(place: Path, tmp_path: Path) -> None:
    """A worker is stopped in the midst of it, and goes on when it has been told to break off."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(16 * MIB))
    target.touch()  # what the client itself has made it removes
    with (
        armed_faults() as armed,
        running(place, popen=with_faults(armed)),
        ktask.connect(place) as client,
        ThreadPoolExecutor(1) as waiter,
    ):
        armed.arm_all("worker.mid_finish:pass*5 worker.mid_finish:stop", "file.compress")
        # Somebody waits for it: a machine that is busy gives helpers nothing.
        run = waiter.submit(client.run, "file.compress", src=source, dst=target, arg={"level": 1})
        until(lambda: run.done() or not armed.waiting(), "a worker is amid the frames")
        (job,) = client.jobs()
        assert job.state == "COMBINING"
        assert target.stat().st_size > 16 * MIB
        client.cancel(job, wait=False)
        for pid in armed.fired().values():
            os.kill(pid, signal.SIGCONT)
        with pytest.raises(ktask.JobFailed) as ended:
            run.result()
        assert ended.value.job.state == "CANCELLED"
        assert ended.value.job.error is not None
        assert ended.value.job.error.reason == "CANCELLED"
        assert target.stat().st_size == 0


def with_faults(armed: ArmedFaults) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a daemon whose workers find what is armed."""
    return lambda words, **options: subprocess.Popen(words, env={**os.environ, **armed.environ}, **options)


def test_decompress_when_the_seek_table_is_wrong_then_the_output_and_the_result_are_right(
    daemon: Daemon, tmp_path: Path
) -> None:
    pieces = [bytes([i]) * MIB + os.urandom(MIB) for i in range(8)]
    squeeze = zstandard.ZstdCompressor(level=1, write_content_size=False).compress
    frames = [squeeze(piece) for piece in pieces]
    sizes = [2 * MIB - 5, *[2 * MIB] * 6, 2 * MIB + 5]
    rows = [struct.pack("<II", len(made), size) for made, size in zip(frames, sizes, strict=True)]
    head, foot = struct.pack("<II", 0x184D2A5E, 8 * 8 + 9), struct.pack("<IBI", 8, 0, 0x8F92EAB1)
    source, target = tmp_path / "source.zst", tmp_path / "target"
    source.write_bytes(b"".join([*frames, head, *rows, foot]))
    with ktask.connect(daemon.place) as client:
        result = client.run("file.decompress", src=source, dst=target).result
    assert target.read_bytes() == b"".join(pieces)
    assert result == {"bytes": 16 * MIB, "compressed": source.stat().st_size, "frames": 0}
