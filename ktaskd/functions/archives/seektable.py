"""The seek table at the end of a zstd file, which names its frames.

`zstd -d` skips the table, so a wrong table does not make the file invalid. A table that cannot be
true is ignored here; any other is believed until a frame turns out to be different.

Source: contrib/seekable_format/zstd_seekable_compression_format.md of zstd
"""

from __future__ import annotations

import os
from array import array

import numpy as np

from ktaskd.functions.archives.encoders import SEEKABLE, SKIPPABLE, TABLE_ENTRY, TABLE_FOOT, TABLE_HEAD
from ktaskd.functions.archives.frames import FRAMES_MAX, Frames, most_of
from ktaskd.functions.body import OpenSource

_CHECKED, _RESERVED = 0x80, 0x7C
_CHECK_BYTES = 4


def find_table(source: OpenSource) -> Frames | None:
    """The frames that the seek table names; None if there is no table or it cannot be true.

    The frames are not `sure`: their headers were not read.
    """
    foot = _read(source, source.size() - TABLE_FOOT.size, TABLE_FOOT.size)
    if foot is None:
        return None
    count, flags, magic = TABLE_FOOT.unpack(foot)
    if magic != SEEKABLE or flags & _RESERVED or not 0 < count <= FRAMES_MAX:
        return None
    entry = TABLE_ENTRY.size + (_CHECK_BYTES if flags & _CHECKED else 0)
    length = count * entry + TABLE_FOOT.size
    begin = source.size() - length - TABLE_HEAD.size
    table = _read(source, begin, TABLE_HEAD.size + length)
    if table is None or not table.startswith(TABLE_HEAD.pack(SKIPPABLE, length)):
        return None
    words = np.frombuffer(table, "<u4", count * entry // 4, TABLE_HEAD.size).reshape(count, entry // 4)
    return _frames_of(words, begin)


def _frames_of(words: np.ndarray[tuple[int, int], np.dtype[np.uint32]], end: int) -> Frames | None:
    """Frames from the rows of a table; None if they do not fill [0, end) or cannot become so long.

    No sum overflows: there are at most 2**20 numbers of 32 bits.
    """
    lengths, sizes = words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)
    ends = np.cumsum(lengths)
    if int(ends[-1]) != end or (sizes > most_of_each(lengths)).any():
        return None
    frames = Frames(sure=False)
    frames.starts = array("Q", (ends - lengths).tobytes())
    frames.ends = array("Q", ends.tobytes())
    frames.places.frombytes(np.cumsum(sizes).tobytes())
    if words.shape[1] > TABLE_ENTRY.size // 4:
        frames.checks = array("I", words[:, 2].astype(np.uint32).tobytes())
    return frames


def most_of_each(
    lengths: np.ndarray[tuple[int], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Most bytes that frames of these lengths can become."""
    return lengths // np.uint64(4) * np.uint64(most_of(4))


def _read(source: OpenSource, start: int, length: int) -> bytes | None:
    """All of [start, start + length); None if the source does not have all of it."""
    if start < 0:
        return None
    content = bytearray()
    while len(content) < length:
        piece = os.pread(source.fd, length - len(content), start + len(content))
        if not piece:
            return None
        content += piece
    return bytes(content)
