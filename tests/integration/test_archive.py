"""The long last steps: frames are moved, and what a wrong seek table has misplaced is written again."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import ktask
import zstandard

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
