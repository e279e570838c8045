"""Compares bytes with the expected ones."""

from __future__ import annotations

from collections.abc import Sequence

UNDONE = frozenset({0, 16, 17})
"""Bytes that undo_log may leave: untouched, undone without being done, or done and undone."""


def first_difference(content: bytes, wanted: bytes, dirty: Sequence[tuple[int, int]]) -> str:
    """The first difference outside the dirty spans, in words; "" if there is none."""
    edges = [0, *(edge for span in sorted(dirty) for edge in span)]
    ends = [*edges[1::2], max(len(content), len(wanted))]
    for start, end in zip(edges[::2], ends, strict=True):
        if content[start:end] != wanted[start:end]:
            at = next(i for i in range(start, end) if content[i : i + 1] != wanted[i : i + 1])
            return f"byte {at} is {content[at : at + 1]!r}, wanted {wanted[at : at + 1]!r}"
    return ""
