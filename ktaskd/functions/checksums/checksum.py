"""Checksums that can be combined from those of parts: CRC-32 by ISA-L, CRC-32C by the crc32c package."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isal.isal_zlib import crc32, crc32_combine

from ktaskd.functions import steady
from ktaskd.functions.body import Body, Context, Control, Json, OpenSource
from ktaskd.functions.quanta import QUANTUM
from ktaskd.functions.reading import Reader, run_each


class Crc(Body):
    """A cyclic checksum of 32 bits.

    Args:
        name: the checksum's name in results.
        extend: takes more bytes and the checksum so far; returns the checksum of both.
        join: takes the checksums of two spans and the length of the second; returns that of both.
    """

    quantum = QUANTUM

    def __init__(
        self,
        name: str,
        extend: Callable[[memoryview, int], int],
        join: Callable[[int, int, int], int],
    ) -> None:
        """Keep the functions."""
        self._name = name
        self._extend = extend
        self._join = join
        self._reader = Reader()

    def wipe(self) -> None:
        """Erase the buffer."""
        self._reader.wipe()

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Checksum a span of the source, or a run of items."""
        if context.items:
            return run_each((start, end), control, lambda position: self._item(context, position, control))
        reached, value = self._sum(context.sources["data"], "data", (start, end), control, None)
        return reached, {self._name: value, "bytes": reached - start}

    def _item(self, context: Context, position: int, control: Control) -> Json | None:
        source = context.items[position]
        before, size = source.stamp(), source.size()
        reached, value = self._sum(source, f"items[{position}]", (0, size), control, position)
        if reached < size:
            return None
        return steady.with_change(context, position, source, before, {self._name: value, "bytes": size})

    def _sum(
        self, source: OpenSource, role: str, span: tuple[int, int], control: Control, report_as: int | None
    ) -> tuple[int, int]:
        """Checksum a span until control stops it."""
        value, extend = 0, self._extend

        def use(view: memoryview) -> None:
            nonlocal value
            value = extend(view, value)

        return self._reader.feed(source, role, span, control, use, report_as), value

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """One checksum of all bytes, or one list of all items; without parts, that of no bytes."""
        if parts and "items" in parts[0]:
            return {"items": [item for part in parts for item in part["items"]]}
        value = count = 0
        for part in parts:
            value = self._join(value, part[self._name], part["bytes"])
            count += part["bytes"]
        return {self._name: value, "bytes": count}


class Crc32(Crc):
    """file.crc32."""

    def __init__(self) -> None:
        """Use the polynomial of zlib, gzip and Ethernet."""
        super().__init__("crc32", crc32, crc32_combine)
