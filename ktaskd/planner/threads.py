"""Computes how many workers a job gets, and how large its chunks are."""

from __future__ import annotations

from ktaskd.model.limits import CHUNKS_MAX, CHUNKS_PER_WORKER, DEFAULT_MAX_THREADS


def ceil_div(value: int, divisor: int) -> int:
    """The quotient, rounded up; `divisor` must be at least 1."""
    return -(-value // divisor)


def round_up(value: int, align: int) -> int:
    """The smallest multiple of `align` that is at least `value`."""
    return ceil_div(value, align) * align


def effective_min_chunk(wanted: int, *, default: int, align: int) -> int:
    """Smallest chunk in positions: a multiple of `align`, at least 1.

    Args:
        wanted: the caller's value; 0 = `default`. Rounded up to a multiple of `align`.
    """
    return round_up(max(wanted or default, 1), max(align, 1))


def thread_count(total: int, *, min_chunk: int, max_threads: int, helpers: int, lead: bool) -> int:
    """Number of workers for a job, including the lead; at least 1.

    Args:
        total: total number of positions.
        min_chunk: as returned by `effective_min_chunk`.
        max_threads: 0 = the default of 4.
        helpers: number of helpers that may run on the job's nodes.
        lead: whether somebody waits for the job, so that it gets a lead in addition.

    Source: ktask_init_work in v4.
    """
    wanted = min(ceil_div(total, min_chunk), max_threads or DEFAULT_MAX_THREADS, helpers + int(lead))
    return max(wanted, 1)


def clamp_to_caller(threads: int, caller_cpus: int) -> int:
    """Limit the workers of a job to the CPUs that its caller may use; 0 = not known.

    A caller that may use two CPUs should not be able to use four through the daemon.
    """
    return max(min(threads, caller_cpus), 1) if caller_cpus > 0 else threads


def chunk_size(total: int, *, threads: int, min_chunk: int, align: int) -> int:
    """Largest chunk in positions: a multiple of `align`, at least `min_chunk`.

    Large enough that a job has at most CHUNKS_MAX chunks. All arguments below 1 count as 1: padata
    divided by zero here for a min_chunk of 0 until 2024.
    """
    wanted = max(
        ceil_div(total, max(threads, 1) * CHUNKS_PER_WORKER), min_chunk, ceil_div(total, CHUNKS_MAX), 1
    )
    return round_up(wanted, max(align, 1))
