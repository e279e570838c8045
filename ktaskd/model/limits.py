"""All bounds that are not configurable, in one place."""

NUMA_NO_NODE = -1
"""The kernel's "any node"."""

DEFAULT_MAX_THREADS = 4
"""Most workers of a job that sets no limit. Source: KTASK_DEFAULT_MAX_THREADS, ktask v4."""

CHUNKS_PER_WORKER = 4
"""At least this many chunks per worker, so that a slow worker delays a job by a quarter at most.
Source: padata's load_balance_factor, ktask's KTASK_LOAD_BAL_SHIFT."""

POSITION_MAX = 2**63 - 1
"""Largest position; file offsets are signed."""

QUANTUM_BYTES_MAX = 8 << 20
"""Most bytes that a body works on between two calls of Control.quantum. A starved helper gave its
chunk back in 0.4 s with this limit, and in 7 to 9 s with 64 MiB."""

CHUNKS_MAX = 1_000_000
"""Most chunks of one job; chunks become larger to keep this limit."""

CHUNK_TIME_TARGET_S = 0.1
"""Work in one chunk once the rate is known: short enough to cancel it and run it again."""

CHUNK_TIME_DETACHED_S = 0.2
"""The same for a job that nobody waits for. Longer, since each end of a chunk wakes the daemon, which
runs at normal priority; a recall does not wait for the end of a chunk."""

CHUNK_TIME_ALONE_S = 2.0
"""The same if no other job needs the helpers either; they are recalled when a job arrives."""

LEASE_REPORT_S = 0.5
"""Time after which a worker reports what it has done of a lease: as much is lost at most when it dies."""

SHORT_CHUNK_S = 0.002
"""If chunks are shorter than this, two are kept in flight to one worker, to hide the dispatch."""

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
"""Size of one gRPC message. Data travels as file descriptors, never in messages."""

FRAME_BYTES_MAX = 64 * 1024
"""Size of one message between the daemon and a worker or a pool host."""

PART_BYTES_MAX = 24 * 1024
"""Size of one chunk's encoded result. Two of them fit into a frame, to be combined."""

RESULT_BYTES_MAX = 512 * 1024
RESULT_VALUES_MAX = 16 * 1024
"""Size of the items in Job.result, as JSON, and number of values in them; more are only streamed. A
message with them is built in 10 ms, and is smaller than SENT_BYTES_MAX."""

PRIOR_HOLES_MAX = 1_000_000
"""Holes kept for the undo of one job; a span with more becomes dirty."""

SENT_BYTES_MAX = 1024 * 1024
"""Size of one message that the daemon sends: by default clients refuse messages of more than 4 MiB."""

ITEMS_KEPT = 64
RANGES_KEPT = 64
SPEC_TEXT_KEPT = 16 * 1024
"""How much of a job's spec the daemon keeps and sends: items, ranges, and characters of items' names."""

NAMES_KEPT = 16
NAME_CHARS_KEPT = 255
NAMES_CHARS_KEPT = 2048
"""Names of a job's sources that the daemon keeps: their number, and the characters of one and of all."""

COMMAND_CHARS_KEPT = 255
"""How much of a client's command line the daemon keeps."""

SPANS_LISTED = 1000
"""Undone spans, and dirty spans, that a job's error lists one by one."""

RESULTS_BYTES_SENT = 32 * 1024
RESULTS_SENT = 1000
"""Results in one message of a watch, as JSON: building a message with that many takes some 5 ms."""

# -- memory: ARCHITECTURE.md shows how the sum of these stays below 300 MiB for one account

LIVE_BYTES = 240 * 1024 * 1024
"""Memory of all jobs that have not ended: specs, results, undo records. One account may have half of
what the others leave."""

KEPT_BYTES = 48 * 1024 * 1024
"""Memory of all ended jobs, divided in the same way; beyond it the oldest jobs are forgotten."""

ACCOUNT_BYTES = 120 * 1024 * 1024
"""Memory of one account in all of these together: jobs that have not ended, ended jobs, and requests that
are being turned into jobs. Ended jobs are not forgotten to make room."""

READ_BYTES = 9 * 1024 * 1024
"""Size of the requests that are being turned into jobs, as received, divided in the same way. Reading a
request of 100,000 names takes up to nine times its size."""

READ_TIMES = 10
"""Memory charged for each byte of such a request: the byte itself, and what is made of it."""

JOB_RESULTS_BYTES_MAX = 24 * 1024 * 1024
"""Size of the results of one job's items, so that they can be kept after its end."""

HOLE_BYTES = 48
"""Memory of one hole: its span, and later its spans among the undone and the dirty ones."""
WARNINGS_MAX = 100
"""Warnings kept for one job; further ones are only counted."""

ATTEMPTS_MAX = 3
"""How often one chunk is run if its worker is lost each time."""

LIST_PAGE_DEFAULT = 100
LIST_PAGE_MAX = 1000

BLOCKED_MAX = 64
"""Leads that may be blocked, in addition to those that use a CPU; each is a process of some MiB."""

BLOCKED_PER_ACCOUNT_MAX = 16
"""The same for one account."""

SPARE_HELPERS = 16
"""Helpers of one node that may be blocked, in addition to those that use a CPU."""
