"""How many workers a job gets, and how large its chunks are."""

from __future__ import annotations

from ktaskd.model.limits import CHUNKS_MAX, CHUNKS_PER_WORKER, DEFAULT_MAX_THREADS


def ceil_div(value: int, divisor: int) -> int:
    """The quotient rounded up; `divisor` is at least 1."""
    return -(-value // divisor)


def round_up(value: int, align: int) -> int:
    """The least multiple of `align` that is not below `value`."""
    return ceil_div(value, align) * align


def effective_min_chunk(wanted: int, *, default: int, align: int) -> int:
    """Smallest chunk in positions: a multiple of `align`, at least 1.

    `wanted` 0 = `default`. A caller's value that is no multiple of `align` is
    rounded up, not refused.
    """
    return round_up(max(wanted or default, 1), max(align, 1))


def thread_count(total: int, *, min_chunk: int, max_threads: int, helpers: int, lead: bool) -> int:
    """Workers for a job, the lead included; at least 1.

    Args:
        total: positions in all.
        min_chunk: as `effective_min_chunk` gives it.
        max_threads: 0 = the default of 4.
        helpers: helpers that may run on the job's nodes.
        lead: whether somebody waits, so that one lead comes on top.

    Source: ktask_init_work in v4.
    """
    wanted = min(ceil_div(total, min_chunk), max_threads or DEFAULT_MAX_THREADS, helpers + int(lead))
    return max(wanted, 1)


def clamp_to_caller(threads: int, caller_cpus: int) -> int:
    """Workers of a job whose caller may use so many CPUs itself; 0 = not known.

    Who may use two CPUs should not be able to use four through us.
    """
    return max(min(threads, caller_cpus), 1) if caller_cpus > 0 else threads


def chunk_size(total: int, *, threads: int, min_chunk: int, align: int) -> int:
    """Largest chunk in positions: a multiple of `align`, at least `min_chunk`.

    Never so small that a job has more than CHUNKS_MAX chunks. padata divided by
    zero here for a min_chunk of 0 until 2024; all arguments below 1 count as 1.
    """
    wanted = max(
        ceil_div(total, max(threads, 1) * CHUNKS_PER_WORKER), min_chunk, ceil_div(total, CHUNKS_MAX), 1
    )
    return round_up(wanted, max(align, 1))
