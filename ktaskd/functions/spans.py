"""Arithmetic of spans, as lists of (start, end). Pure."""

from __future__ import annotations

from ktaskd.functions.quanta import PAGE

_ZERO_PAGE = bytes(PAGE)


def zero_runs(buffer: bytearray, length: int, base: int) -> list[tuple[int, int]]:
    """Whole pages of zeros in buffer[:length], as positions; the last one may be short.

    Args:
        base: position of buffer[0]. Pages are those of the source: if buffer[0] lies inside a
            page, the first piece ends with that page.
    """
    runs: list[tuple[int, int]] = []
    offset = 0
    while offset < length:
        stop = min(length, offset + PAGE - (base + offset) % PAGE)
        zeros = _ZERO_PAGE if stop - offset == PAGE else bytes(stop - offset)
        # startswith compares in place; a slice of the buffer would be a copy.
        if buffer.startswith(zeros, offset):
            if runs and runs[-1][1] == base + offset:
                runs[-1] = (runs[-1][0], base + stop)
            else:
                runs.append((base + offset, base + stop))
        offset = stop
    return runs


def gaps(runs: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of [start, end) outside of `runs`.

    Args:
        runs: ascending and disjoint; may reach beyond [start, end).
    """
    out = []
    for first, after in runs:
        if first >= end:
            break
        if first > start:
            out.append((start, first))
        start = max(start, after)
    if start < end:
        out.append((start, end))
    return out


def common(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The intersection of two ascending lists of spans."""
    out = []
    i = j = 0
    while i < len(left) and j < len(right):
        first, after = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if first < after:
            out.append((first, after))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return out
