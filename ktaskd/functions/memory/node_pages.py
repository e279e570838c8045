"""Counts the pages that a chunk has touched by their NUMA node, as the kernel reports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ktaskd.functions.body import Body, Context, Json
from ktaskd.functions.quanta import PAGE

EXACT_BYTES = 16 << 20
"""In a job of up to this length every page is counted."""

STEP = 128 << 10
"""In a longer job, one page in this many bytes is counted. Filling 512 MiB of present memory took 60 ms of
CPU time. Asking for all pages took 29 ms more, for one in 64 KiB 3 ms, for one in 128 KiB 1 ms."""

COUNTED = 4096
"""If twice as many pages would be counted, the step is doubled: a page that is not mapped yet is mapped
for it, which takes 2 us."""


def step_of(context: Context) -> int:
    """One page in this many bytes is counted."""
    length, step = context.span[1] - context.span[0], STEP
    if length <= EXACT_BYTES:
        return PAGE
    while length // step >= 2 * COUNTED:
        step *= 2
    return step


class CountsPages(Body):
    """A body whose chunks count pages by their node."""

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sums; without parts, no pages."""
        pages: Counter[str] = Counter()
        for part in parts:
            pages.update(part["pages"])
        looked_at = sum(part["pages_sampled"] for part in parts)
        return {"pages": dict(sorted(pages.items(), key=_node)), "pages_sampled": looked_at}


def _node(item: tuple[str, int]) -> int:
    return int(item[0])


def count_pages(context: Context, role: str, start: int, end: int) -> Json | None:
    """How many pages of [start, end) are on each node, and how many were looked at.

    Absent pages, such as the holes of a copy, are looked at and counted on no node. None if the
    worker does not use a mapping: without one, pages have no address to ask for.
    """
    if start >= end:
        return None
    nodes = context.sources[role].nodes(start, end, step_of(context))
    if nodes is None:
        return None
    pages = {str(node): count for node, count in sorted(nodes.items()) if node >= 0}
    return {"pages": pages, "pages_sampled": sum(nodes.values())}
