"""A job with a known result, the expected content of its target, and its sources."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktask.v1 import jobs_pb2 as pb

from tests.fault.compare import UNDONE, first_difference

MIB = 1 << 20
PAGE = 4096
GUARD = 64 << 10
"""Bytes on both sides of the span that a job writes."""

MEMFD = "campaign"
FILE = "campaign-"
"""Names of the sources, or their beginnings, by which descriptors are recognised."""

_NOISE = random.Random(11).randbytes(24 * MIB)


@dataclass
class Work:
    """One job to run; owns its descriptors.

    Args:
        sources, items: descriptors, by role and in order.
        target: the descriptor that it writes; -1 = none.
        before, after: the target's content before, and after a success.
        more: the result has further fields, which differ every time.
        fails: the job cannot succeed.
        counts: its undo does not restore, but adds to each byte; up to `end`.
        holes: the span in which its undo also restores holes.
        about: further errors of the ended job and of the target, in words.
    """

    function: str
    fields: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    items: list[int] = field(default_factory=list)
    target: int = -1
    before: bytes = b""
    after: bytes = b""
    result: dict[str, Any] | None = None
    more: bool = False
    fails: bool = False
    counts: bool = False
    holes: tuple[int, int] = (0, 0)
    about: Callable[[Work, pb.Job], str] | None = None
    kind: str = ""

    def __post_init__(self) -> None:
        """Remember which parts of the target hold data."""
        self._data = data_spans(self.target, *self.holes) if any(self.holes) else []

    def close(self) -> None:
        """Close its descriptors, and drop everything large."""
        for fd in {*self.sources.values(), *self.items}:
            os.close(fd)
        self.before = self.after = b""
        self.result = self.about = None

    def read(self) -> bytes:
        """The target's content now."""
        return os.pread(self.target, os.fstat(self.target).st_size, 0) if self.target >= 0 else b""

    def wrong(self, job: pb.Job) -> list[str]:
        """The ways in which the target and the result differ from what the ended job reports."""
        found = []
        succeeded = job.state == pb.JOB_STATE_SUCCEEDED
        dirty = [(span.start, span.end) for span in job.error.dirty]
        content, wanted = self.read(), self.after if succeeded else self.before
        if self.counts and not succeeded:
            content = bytes(0 if byte in UNDONE else byte for byte in content)
        if len(content) != len(wanted) and not dirty:
            found.append(f"target: {len(content)} bytes long, wanted {len(wanted)}")
        difference = first_difference(content, wanted, dirty)
        if difference:
            found.append(f"target: {difference}")
        if any(self.holes) and self.fields.get("undo", True) and not succeeded and not dirty:
            data = data_spans(self.target, *self.holes)
            if data != self._data:
                found.append(f"target: data in {data}, wanted {self._data}")
        if succeeded and self.result is not None and not self._is_result(job.result):
            found.append(f"result: got {job.result}, wanted {self.result}")
        if self.about is not None and (words := self.about(self, job)):
            found.append(words)
        return found

    def _is_result(self, got: Any) -> bool:
        assert self.result is not None
        found, wanted = _found(got), _as_json(self.result)
        if self.more:
            found = {name: value for name, value in found.items() if name in wanted}
        return bool(found == wanted)


def _found(got: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(got)


def data_spans(fd: int, start: int, end: int) -> list[tuple[int, int]]:
    """Spans of data, ascending, in those pages that are entirely within [start, end)."""
    found: list[tuple[int, int]] = []
    position, stop = -(-start // PAGE) * PAGE, end // PAGE * PAGE
    while position < stop:
        try:
            first = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        position = os.lseek(fd, first, os.SEEK_HOLE)
        if first < stop:
            found.append((first, min(position, stop)))
    return found


def _as_json(value: Any) -> Any:
    """The value with protobuf's numbers (floats)."""
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


# -- their sources ---------------------------------------------------------------


def memory(content: bytes | int, rng: random.Random) -> int:
    """Memory with this content, or a hole of this length; sometimes sealed, so that workers map it."""
    import fcntl

    fd = os.memfd_create(MEMFD, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    if isinstance(content, int):
        os.truncate(fd, content)
    else:
        os.truncate(fd, len(content))
        _write_data(fd, content)
    if rng.random() < 0.5:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def file(place: Path, content: bytes, flags: int) -> int:
    """A file that has been unlinked."""
    path = place / f"{FILE}{random.getrandbits(64):x}"
    with path.open("wb") as stream:
        stream.truncate(len(content))
        _write_data(stream.fileno(), content)
    fd = os.open(path, flags | os.O_CLOEXEC)
    path.unlink()
    return fd


def _write_data(fd: int, content: bytes) -> None:
    """Write the blocks that are not zero, so that the others stay holes."""
    zeros = bytes(MIB)
    for start in range(0, len(content), MIB):
        piece = content[start : start + MIB]
        if piece != zeros[: len(piece)]:
            os.pwrite(fd, piece, start)


def noise(rng: random.Random, size: int) -> bytes:
    """Noise with holes in it."""
    shift = rng.randrange(len(_NOISE) - size) if size < len(_NOISE) else 0
    content = bytearray(_NOISE[shift : shift + size])
    for _ in range(rng.randrange(4)):
        start = rng.randrange(size // MIB + 1) * MIB
        length = len(content[start : start + 2 * MIB])
        content[start : start + length] = bytes(length)
    return bytes(content)


def size_of(rng: random.Random, least_mib: int, most_mib: int) -> int:
    return rng.randrange(least_mib * MIB, most_mib * MIB)
