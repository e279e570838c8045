"""All rows by name: what each measures, and the goals are those of its module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.bench.interference.line import Line
from tests.bench.peers import archives, crc, empty, many, pools, starting, storage, used, verbs
from tests.bench.peers.contest import Bench


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Args:
        measure: yields its lines.
        needs: bytes of memory and page cache at the same time, as a multiple of the bench's size.
    """

    title: str
    measure: Callable[[Bench], Iterator[Line]]
    needs: int = 2


ROWS: Mapping[str, Row] = {
    "crc-memory": Row("file.crc32 of memory, over one direct thread", crc.memory, 1),
    "crc-file": Row("file.crc32 of a file in the page cache, over one direct thread", crc.file, 1),
    "empty-one": Row("an empty job, over a bare call of grpc.aio", empty.one, 0),
    "empty-many": Row("empty jobs from four programs, over bare calls", empty.many, 0),
    "cpu": Row("total CPU of a job, over one direct thread", used.cpu, 1),
    "messages": Row("messages to and from workers", used.messages, 1),
    "files-medium": Row("digests of many files of 64 KiB", many.medium, 1),
    "files-small": Row("digests of many files of 4 KiB", many.small, 1),
    "copy": Row("file.copy, over cp and a plain loop", storage.copy, 2),
    "fill": Row("mem.fill, over the best way of one process", storage.fill, 1),
    "populate": Row("mem.populate, over fallocate and MADV_POPULATE_WRITE", storage.populate, 4),
    "compress": Row("file.compress, over zstd and pigz", archives.compress, 2),
    "search": Row("text.search, over ripgrep", archives.search, 1),
    "joblib": Row("joblib with one large array, over loky", pools.arrays, 2),
    "map": Row("the executor's map, over ProcessPoolExecutor and loky", pools.maps, 0),
    "verbs": Row("verbs of the command, over the programs that they imitate", verbs.verbs, 3),
    "start": Row("the start of the command", starting.start, 0),
}
"""Two further rows of a full comparison have commands of their own: `make bench-interference`, which shows
what others lose beside our helpers, and `make fault-test`."""
