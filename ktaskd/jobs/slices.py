"""Long work in short turns of the loop, so that others are served in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import TypeVar

SLICE = 500
"""Things that one turn works on: at a few microseconds each, a millisecond or two."""

Thing = TypeVar("Thing")


def slices(things: Sequence[Thing], size: int = SLICE) -> Iterator[Sequence[Thing]]:
    """Cut what is long into pieces for one turn each."""
    for first in range(0, len(things), size):
        yield things[first : first + size]


async def breathe(*, after: int = SLICE) -> None:
    """Let others have their turn; not after less than a whole slice, which most jobs have."""
    if after >= SLICE:
        await asyncio.sleep(0)


def for_each(things: Collection[Thing], do: Callable[[Thing], object]) -> None:
    """Do something to each: to the first ones now, to the others in later turns of the loop."""
    _go_on(iter(things), do)


def _go_on(things: Iterator[Thing], do: Callable[[Thing], object]) -> None:
    batch = list(islice(things, SLICE))
    for thing in batch:
        do(thing)
    if len(batch) == SLICE:
        asyncio.get_running_loop().call_soon(_go_on, things, do)
