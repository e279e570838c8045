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

RESULT_BYTES_MAX = 512 * 1024
RESULT_VALUES_MAX = 16 * 1024
"""Items in Job.result, as JSON, and the values in them; more are only streamed. A message with
them is made in 10 ms, and is smaller than TOLD_BYTES_MAX."""

PRIOR_HOLES_MAX = 1_000_000
"""Holes remembered for the undo of one job; a span with more becomes dirty."""

TOLD_BYTES_MAX = 1024 * 1024
"""One message of the daemon's: clients refuse those of more than 4 MiB unless told otherwise."""

ITEMS_TOLD = 64
RANGES_TOLD = 64
SPEC_TEXT_TOLD = 16 * 1024
"""Items, their names' characters, and ranges of a job's spec that its messages carry, and that the
daemon remembers of it."""

SPANS_TOLD = 1000
"""Spans of what was undone, and of what is dirty, that a job's error names one by one."""

RESULTS_BYTES_TOLD = 32 * 1024
RESULTS_TOLD = 1000
"""Results in one message of a watch, as JSON: that many are made into a message in some 5 ms."""

# -- memory: how the sum of these stays below 300 MiB for one account is in ARCHITECTURE.md

LIVE_BYTES = 240 * 1024 * 1024
"""What all jobs that have not ended may hold: specs, results, what an undo needs. One account
may have half of what the others leave."""

KEPT_BYTES = 48 * 1024 * 1024
"""What all ended jobs may hold, shared in the same way; beyond that the oldest are forgotten."""

ACCOUNT_BYTES = 120 * 1024 * 1024
"""What one account may hold of all that together: in jobs that have not ended, and in requests
that are being made into jobs. Ended jobs count, and are not forgotten for it."""

READ_BYTES = 9 * 1024 * 1024
"""Requests that are being made into jobs, as they came, shared in the same way. Reading one of
100,000 names takes up to nine times as much as it has."""

READ_TIMES = 10
"""So many bytes a byte of such a request counts for: itself, and what is made of it."""

JOB_RESULTS_BYTES_MAX = 24 * 1024 * 1024
"""Results of one job's items: it must be possible to keep them when it has ended."""

HOLE_BYTES = 48
"""What a remembered hole takes: its span, and later the spans that were undone and are dirty."""
WARNINGS_MAX = 100
"""Warnings kept of one job; further ones are counted."""

ATTEMPTS_MAX = 3
"""Times one chunk is run when its worker is lost each time."""

LIST_PAGE_DEFAULT = 100
LIST_PAGE_MAX = 1000

BLOCKED_MAX = 64
"""Leads that may be blocked beside those that use a CPU; each is a process of some MiB."""

BLOCKED_PER_ACCOUNT_MAX = 16
"""The same for one account."""

SPARE_HELPERS = 16
"""Helpers of one node that may be blocked beside those that use a CPU."""
