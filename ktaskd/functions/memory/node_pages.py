"""On which NUMA nodes the pages are that a chunk has touched, read back from the kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ktaskd.functions.body import Body, Context, Json
from ktaskd.functions.quanta import PAGE

EXACT_BYTES = 16 << 20
"""Of a job up to this length every page is looked at."""

STEP = 128 << 10
"""Of a longer one, a page of each such step. Filling 512 MiB that are present took 60 ms of
CPU time; to look at all pages took 29 ms more, at one in 64 KiB 3 ms, at one in 128 KiB 1 ms."""


class CountsPages(Body):
    """A body whose chunks tell where the pages are."""

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sum; of no parts, no pages."""
        pages: Counter[str] = Counter()
        for part in parts:
            pages.update(part["pages"])
        looked_at = sum(part["pages_sampled"] for part in parts)
        return {"pages": dict(sorted(pages.items(), key=_node)), "pages_sampled": looked_at}


def _node(item: tuple[str, int]) -> int:
    return int(item[0])


def count_pages(context: Context, role: str, start: int, end: int) -> Json | None:
    """How many pages of [start, end) are on which node, and how many were looked at.

    Pages that are not there, as holes of a copy are not, are looked at and on no node.
    None where the worker does not work in a mapping: such pages have no address to ask for.
    """
    if start >= end:
        return None
    step = PAGE if context.span[1] - context.span[0] <= EXACT_BYTES else STEP
    nodes = context.sources[role].nodes(start, end, step)
    if nodes is None:
        return None
    pages = {str(node): count for node, count in sorted(nodes.items()) if node >= 0}
    return {"pages": pages, "pages_sampled": sum(nodes.values())}
