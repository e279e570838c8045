"""Every bound that is not in the configuration, in one place."""

NUMA_NO_NODE = -1
"""The kernel's "any node"."""

DEFAULT_MAX_THREADS = 4
"""Workers of a job that does not say. Source: KTASK_DEFAULT_MAX_THREADS, ktask v4."""

CHUNKS_PER_WORKER = 4
"""Several chunks a worker, so that a slow one delays a job by a quarter at most.
Source: padata's load_balance_factor, ktask's KTASK_LOAD_BAL_SHIFT."""

POSITION_MAX = 2**63 - 1
"""Largest position; file offsets are signed."""

CHUNKS_MAX = 1_000_000
"""Chunks of one job; a smaller chunk is made larger instead."""

CHUNK_TIME_TARGET_S = 0.1
"""Work in one chunk once the rate is known: small enough to cancel and re-run."""

CHUNK_TIME_DETACHED_S = 0.2
"""The same where nobody waits: each chunk's end wakes the daemon, whose priority is that of
everybody, and a recall does not wait for the end of a chunk."""

CHUNK_TIME_ALONE_S = 2.0
"""The same where no other job wants the helpers either; they are recalled when one comes."""

SHORT_CHUNK_S = 0.002
"""Below this two chunks are kept in flight to one worker, to hide the dispatch."""

SOURCES_MAX = 16
ITEMS_MAX = 100_000
RANGES_MAX = 4096
LABELS_MAX = 16
LABEL_BYTES_MAX = 256
REQUEST_ID_MAX = 128
NAME_BYTES_MAX = 128
PATH_BYTES_MAX = 4096
ARG_BYTES_MAX = 16 * 1024

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""One gRPC message. Data goes by file descriptor, never in a message."""

FRAME_BYTES_MAX = 64 * 1024
"""One message between the daemon and a worker or a pool host."""

PART_BYTES_MAX = 24 * 1024
"""Encoded result of one chunk; two of them fit in a frame, to be combined."""

PARTS_BYTES_MAX = 64 * 1024 * 1024
"""Chunk results held for one job."""

RESULT_BYTES_MAX = 1024 * 1024
"""Items in Job.result; more are only streamed."""

PRIOR_HOLES_MAX = 1_000_000
"""Holes remembered for the undo of one job; a span with more becomes dirty."""

WARNINGS_MAX = 100
"""Warnings kept of one job; further ones are counted."""

ATTEMPTS_MAX = 3
"""Times one chunk is run when its worker is lost each time."""

LIST_PAGE_DEFAULT = 100
LIST_PAGE_MAX = 1000
