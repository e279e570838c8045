"""Trees of patterns: their nodes, simplification, and the number of ways to match."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

NEWLINE = 10
ANY = frozenset(range(128)) - {NEWLINE}
"""Everything that `.` matches in ASCII."""

WAYS_MAX = 1000
"""Limit up to which ways to match are counted."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """One byte of a set.

    Args:
        wide: it may match several bytes in a text that is not ASCII.
    """

    values: frozenset[int]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """The begin of a line."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a line."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The begin or the end of a word of ASCII letters, digits and underscores."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts one after the other; without parts, the empty text."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one of several parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part repeated; `most` None = without a limit."""

    part: Node
    least: int
    most: int | None


Node = Bytes | Begin | Edge | End | Sequence | Choice | Repeat

Size = tuple[int, int, int | None]
"""Number of ways to match, and the least and most bytes of a match; None = no limit."""

_SIZE_OF_NOTHING: Size = (1, 0, 0)

_EMPTY = Sequence()


def ended(node: Node) -> Node:
    """Return a pattern that matches in the same lines, without needless repeats at its end."""
    match node:
        case Sequence(parts):
            while parts:
                last = ended(parts[-1])
                if last != _EMPTY:
                    return Sequence((*parts[:-1], last))
                parts = parts[:-1]
            return _EMPTY
        case Choice(parts):
            return Choice(tuple(map(ended, parts))) if _EMPTY not in map(ended, parts) else _EMPTY
        case Repeat(part, least):
            return _EMPTY if least == 0 else ended(part) if least == 1 else Repeat(part, least, least)
        case _:
            return node


def begun(node: Node) -> Node:
    """Return a pattern that matches in the same lines, without needless repeats at its begin."""
    match node:
        case Sequence(parts):
            while parts:
                first = begun(parts[0])
                if first != _EMPTY:
                    return Sequence((first, *parts[1:]))
                parts = parts[1:]
            return _EMPTY
        case Choice(parts):
            return Choice(tuple(map(begun, parts))) if _EMPTY not in map(begun, parts) else _EMPTY
        case Repeat(part, least):
            return _EMPTY if least == 0 else begun(part) if least == 1 else Repeat(part, least, least)
        case _:
            return node


def flat(node: Node) -> list[Node]:
    """Return a pattern as one flat sequence, in which `.+` becomes `.` and `.*`."""
    match node:
        case Sequence(parts):
            return [one for part in parts for one in flat(part)]
        case Repeat(part, least, None) if least > 0:
            return [*flat(Repeat(part, least, least)), Repeat(part, 0, None)]
        case Repeat(part, 1, 1):
            return flat(part)
        case _:
            return [node]


def first_bytes(parts: list[Node]) -> tuple[frozenset[int], bool]:
    """Return the bytes with which a match may begin, and whether it may be empty."""
    found: frozenset[int] = frozenset()
    for part in parts:
        values, may_be_empty = _first_of(part)
        found |= values
        if not may_be_empty:
            return found, False
    return found, True


def _first_of(node: Node) -> tuple[frozenset[int], bool]:
    match node:
        case Bytes(values):
            return values, False
        case Begin() | Edge():
            return frozenset(), True
        case End():
            return frozenset({NEWLINE}), False
        case Sequence(parts):
            return first_bytes(list(parts))
        case Choice(parts):
            each = [_first_of(part) for part in parts]
            return frozenset().union(*(values for values, _ in each)), any(empty for _, empty in each)
        case Repeat(part, least):
            values, empty = _first_of(part)
            return values, empty or least == 0


def all_bytes(node: Node) -> frozenset[int]:
    """Return all bytes of which a match may consist."""
    match node:
        case Bytes(values):
            return values
        case Sequence(parts) | Choice(parts):
            return frozenset().union(*map(all_bytes, parts))
        case Repeat(part):
            return all_bytes(part)
        case _:
            return frozenset()


def is_certain(node: Node, follows: frozenset[int]) -> bool:
    """Return whether the next byte always decides between the ways to match.

    So a match that begins at a position, and that one of these bytes follows, can end in one place only. The
    rule is that of LL(1) grammars: no byte begins two ways.

    Args:
        follows: bytes that may come after the match.
    """
    match node:
        case Sequence(parts):
            return all(is_certain(part, _after(parts[i + 1 :], follows)) for i, part in enumerate(parts))
        case Choice(parts):
            firsts = [_after((part,), follows) for part in parts]
            apart = sum(map(len, firsts)) == len(frozenset().union(*firsts))
            return apart and all(is_certain(part, follows) for part in parts)
        case Repeat(part, least, most):
            first, may_be_empty = _first_of(part)
            if may_be_empty or (least != most and first & follows):
                return False
            return is_certain(part, follows | first)
        case _:
            return True


def _after(parts: tuple[Node, ...], follows: frozenset[int]) -> frozenset[int]:
    """Return the bytes that may come next if these parts come next."""
    values, may_be_empty = first_bytes(list(parts))
    return values | follows if may_be_empty else values


def is_finite(parts: list[Node]) -> bool:
    """Return whether all repeats are limited."""
    return size_of(Sequence(tuple(parts)))[2] is not None


def is_fixed(parts: list[Node]) -> bool:
    """Return whether all matches have the same length."""
    _, least, most = size_of(Sequence(tuple(parts)))
    return least == most


def size_of(node: Node) -> Size:
    """Return the size of everything that a tree may match."""
    match node:
        case Bytes():
            return 1, 1, 1
        case Begin() | Edge() | End():
            return 1, 0, 0
        case Sequence(parts):
            return reduce(_joined, map(size_of, parts), _SIZE_OF_NOTHING)
        case Choice(parts):
            ways, least, most = zip(*map(size_of, parts), strict=True)
            return sum(ways), min(least), None if None in most else max(most)
        case Repeat(part, least, most):
            return _repeated(size_of(part), least, most)


def _joined(left: Size, right: Size) -> Size:
    most = None if left[2] is None or right[2] is None else left[2] + right[2]
    return min(left[0] * right[0], WAYS_MAX), left[1] + right[1], most


def _repeated(size: Size, least: int, most: int | None) -> Size:
    ways, shortest, longest = size
    if most is None or longest is None:
        return WAYS_MAX, shortest * least, None
    total = sum(min(ways, WAYS_MAX) ** min(count, 12) for count in range(least, most + 1))
    return min(total, WAYS_MAX), shortest * least, longest * most


def is_wide(node: Node) -> bool:
    """Return whether a tree is valid only for texts that are pure ASCII."""
    match node:
        case Bytes():
            return node.wide
        case Sequence(parts) | Choice(parts):
            return any(map(is_wide, parts))
        case Repeat(part):
            return is_wide(part)
        case _:
            return False
