"""Bounds on the number of workers and the size of chunks, for all numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.model.limits import CHUNKS_MAX, DEFAULT_MAX_THREADS
from ktaskd.planner.threads import (
    ceil_div,
    chunk_size,
    clamp_to_caller,
    effective_min_chunk,
    round_up,
    thread_count,
)

totals = st.integers(0, 2**63 - 1)
counts = st.integers(0, 300)
aligns = st.sampled_from([0, 1, 2, 3, 512, 4096, 2 << 20])


@given(
    total=totals,
    min_chunk=st.integers(1, 2**63),
    max_threads=counts,
    helpers=counts,
    lead=st.booleans(),
    caller_cpus=counts,
)
def test_thread_count_when_computed_then_within_every_bound(
    total: int, min_chunk: int, max_threads: int, helpers: int, lead: bool, caller_cpus: int
) -> None:
    wanted = thread_count(total, min_chunk=min_chunk, max_threads=max_threads, helpers=helpers, lead=lead)
    threads = clamp_to_caller(wanted, caller_cpus)
    bounds = [ceil_div(total, min_chunk), max_threads or DEFAULT_MAX_THREADS, helpers + lead]
    if caller_cpus:
        bounds.append(caller_cpus)
    assert threads == max(min(bounds), 1)


@given(total=totals, threads=counts, wanted=st.integers(0, 2**63), align=aligns)
def test_chunk_size_when_computed_then_aligned_and_no_more_than_a_million_of_them(
    total: int, threads: int, wanted: int, align: int
) -> None:
    floor = effective_min_chunk(wanted, default=7, align=align)
    size = chunk_size(total, threads=threads, min_chunk=floor, align=align)
    assert size >= floor >= max(wanted, 1)
    assert size % max(align, 1) == 0
    assert floor % max(align, 1) == 0
    assert ceil_div(total, size) <= min(CHUNKS_MAX, max(threads, 1) * 4)


@given(st.integers(0, 2**64), st.integers(1, 2**32))
def test_round_up_when_computed_then_the_next_multiple(value: int, align: int) -> None:
    rounded = round_up(value, align)
    assert rounded % align == 0
    assert 0 <= rounded - value < align


def test_min_chunk_when_not_given_then_the_default_rounded_up() -> None:
    assert effective_min_chunk(0, default=5, align=4) == 8
    assert effective_min_chunk(3, default=5, align=0) == 3
    assert effective_min_chunk(0, default=0, align=0) == 1
