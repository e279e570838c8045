"""Reads a zstd stream in groups of whole frames, as long as it has frames of known and moderate size."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import IO

from ktask.cli.archives.pieces import PIECE_BYTES, in_memory
from ktask.cli.archives.zstd_frames import Frame, NoFrame, frame_at

CONTENT_MAX = 32 << 20
"""Bytes that the frames of one group decompress to at most."""

_READ = 1 << 20


class FrameReader:
    """Cuts a stream into groups of frames. After them, `rest` has bytes that were read and are in none."""

    def __init__(self, fd: int) -> None:
        """Read nothing yet; the caller keeps the descriptor."""
        self._fd = fd
        self.rest = bytearray()
        self.position = 0
        """Position of `rest` in the stream."""
        self.starts: deque[int] = deque()
        """Positions of the groups in the stream; a caller removes that of a group that is done."""
        self.skipped = False
        """Whether there was a frame that decoders pass over."""

    def __iter__(self) -> Iterator[IO[bytes]]:
        """Yield groups in files in memory, which the caller closes.

        It ends with the stream, or at a frame that is too large or does not state its size: then
        the rest of the stream has to be decompressed as a whole.
        """
        end, content = 0, 0
        while True:
            frame = self._next(end)
            if frame is None:
                break
            size = frame.content or 0
            if end and (frame.is_skippable or content + size > CONTENT_MAX):
                yield self._group(end)
                end, content = 0, 0
            if frame.is_skippable:
                self._take(frame.length)
                self.skipped = True
                continue
            end, content = end + frame.length, content + size
            if end >= PIECE_BYTES:
                yield self._group(end)
                end, content = 0, 0
        if end:
            yield self._group(end)

    def _next(self, at: int) -> Frame | None:
        """The frame at a position of `rest`, after reading it; None if no group can have it."""
        while True:
            try:
                frame = frame_at(self.rest, at)
            except NoFrame:
                return None
            if frame is not None:
                return frame if frame.content is not None and frame.content <= CONTENT_MAX else None
            data = os.read(self._fd, _READ) if len(self.rest) - at <= PIECE_BYTES else b""
            if not data:
                return None
            self.rest += data

    def _group(self, end: int) -> IO[bytes]:
        group = in_memory()
        with memoryview(self.rest)[:end] as part:
            group.write(part)
        self.starts.append(self.position)
        self._take(end)
        return group

    def _take(self, count: int) -> None:
        del self.rest[:count]
        self.position += count
