"""Splits long work of the loop into short slices, so that other clients are served in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import TypeVar

SLICE = 500
"""Things in one slice: at a few microseconds each, a millisecond or two."""

Thing = TypeVar("Thing")


def slices(things: Sequence[Thing], size: int = SLICE) -> Iterator[Sequence[Thing]]:
    """Cut a long sequence into slices."""
    for first in range(0, len(things), size):
        yield things[first : first + size]


async def breathe(*, after: int = SLICE) -> None:
    """Let the loop serve others, unless fewer things than a slice were worked on, as for most jobs."""
    if after >= SLICE:
        await asyncio.sleep(0)


def for_each(things: Collection[Thing], do: Callable[[Thing], object]) -> None:
    """Call `do` with each thing: with the first slice now, with the others in later turns of the loop."""
    _go_on(iter(things), do)


def _go_on(things: Iterator[Thing], do: Callable[[Thing], object]) -> None:
    batch = list(islice(things, SLICE))
    for thing in batch:
        do(thing)
    if len(batch) == SLICE:
        asyncio.get_running_loop().call_soon(_go_on, things, do)
