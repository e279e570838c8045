r"""Rewrites a pattern so that a backtracking engine finds the lines that match, in linear time.

Only whether a line matches counts, so a pattern can be simplified: a repeat at either end is cut to its
minimum, since `a+b.*` matches wherever `ab` does. The rest of the line is added to the pattern, so each
match takes its whole line and the number of matches is the number of lines.

    (*LF)PATTERN[^\n]*+\n

A backtracking engine tries every way to match at every position, which can take exponential time. So a
pattern is used only if the ways are few and short, and if each unlimited repeat stops at the byte that
follows it, or is in a part where each byte decides the way, or is `.*` between texts of a fixed length. If
the text after `.*` does not occur after the first occurrence of the text before it, the line does not match,
and the engine skips the whole line.
All other patterns are left to RE2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from ktaskd.functions.text.trees import (
    ANY,
    NEWLINE,
    Begin,
    Bytes,
    Choice,
    Edge,
    End,
    Node,
    Repeat,
    Sequence,
    all_bytes,
    begun,
    ended,
    first_bytes,
    flat,
    is_certain,
    is_finite,
    is_fixed,
    is_wide,
    size_of,
)

_STEPS_MAX = 512
"""Limit of the ways in which a pattern may match at one position, times the bytes of the longest."""

_ASCII = frozenset(range(128))
_REST = r"[^\n]*+\n"
_NO_LINE = r"(?:[^\n]*+\n(*SKIP)(*FAIL))"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A pattern of PCRE2 whose matches are the lines that match.

    Args:
        ascii_only: valid only for texts that are pure ASCII.
        quadratic: the time for a line may grow with the square of its length.
    """

    pattern: bytes
    ascii_only: bool
    quadratic: bool


class _Unbounded(Exception):
    """The pattern may take too long."""


def rewritten(tree: Node) -> Rewritten | None:
    """Rewrite a pattern; None if a backtracking engine may take too long for it."""
    parts = flat(begun(ended(tree)))
    try:
        words, quadratic = _of_sequence(parts)
    except _Unbounded:
        return None
    return Rewritten(f"(*LF){words}{_REST}".encode("ascii"), any(map(is_wide, parts)), quadratic)


def _of_sequence(parts: list[Node]) -> tuple[str, bool]:
    """Return the expression, and whether the time for a line may grow with the square of its length."""
    segments = _segments(parts)
    if len(segments) > 1 and all(is_fixed(segment) for segment in segments[:-1]) and is_finite(segments[-1]):
        for segment in segments:
            _require_few(segment)
        return _of_segments(segments), False
    return _of_repeats(parts)


def _is_gap(node: Node) -> bool:
    return isinstance(node, Repeat) and node == Repeat(Bytes(ANY, wide=True), 0, None)


def _segments(parts: list[Node]) -> list[list[Node]]:
    """Return the parts between one `.*` and the next, without repeats that the `.*` makes needless."""
    gaps = [-1, *(i for i, part in enumerate(parts) if _is_gap(part)), len(parts)]
    found = (Sequence(tuple(parts[first + 1 : after])) for first, after in pairwise(gaps))
    return [segment for node in found if (segment := flat(begun(ended(node))))]


def _of_segments(segments: list[list[Node]]) -> str:
    """Return an expression for the first segment, then the first occurrence of the next, and so on."""
    first, *others = segments
    words = ""
    for segment in reversed(others):
        # A single byte is found faster by skipping all others.
        alone = segment[0] if len(segment) == 1 and isinstance(segment[0], Bytes) else None
        gap = f"[^{_ranges(alone.values | {NEWLINE})}]*+" if alone else r"[^\n]*?"
        words = f"(?:{gap}{_words(segment)}{words}|{_NO_LINE})"
    return _words(first) + words


def _of_repeats(parts: list[Node]) -> tuple[str, bool]:
    """Return an expression for a sequence with unlimited repeats; as `_of_sequence`."""
    words, gives_back, quadratic = "", 0, False
    # A pattern anchored at the begin of a line has only one position to start from.
    begin = frozenset() if parts and isinstance(parts[0], Begin) else first_bytes(parts)[0]
    repeats = [part for part in parts if not is_finite([part])]
    _require_few([part for part in parts if part not in repeats])
    for i, part in enumerate(parts):
        if part not in repeats:
            words += _word(part)
            continue
        follows, may_end = first_bytes(parts[i + 1 :])
        if not (isinstance(part, Repeat) and isinstance(part.part, Bytes)):
            if may_end or not is_certain(part, follows):
                raise _Unbounded
            quadratic = quadratic or bool(all_bytes(part) & begin)
            words += f"(?>{_word(part)})"
            continue
        disjoint = not (may_end or part.part.values & follows)
        gives_back += not disjoint
        quadratic = quadratic or not disjoint or bool(part.part.values & begin)
        words += _class(part.part) + ("*+" if disjoint else "*")
    if gives_back and len(repeats) > 1:
        raise _Unbounded
    return words, quadratic


def _require_few(parts: list[Node]) -> None:
    """Raise _Unbounded if there are too many ways to match."""
    ways, _, most = size_of(Sequence(tuple(parts)))
    if ways * max(most or 0, 1) > _STEPS_MAX:
        raise _Unbounded


def _words(parts: list[Node]) -> str:
    return "".join(map(_word, parts))


def _word(node: Node) -> str:
    match node:
        case Bytes():
            return _class(node)
        case Begin():
            return "^"
        case Edge():
            return r"\b"
        case End():
            # Not `(?=\n)`: PCRE2 10.42 misses a match that begins with it and has only one newline.
            return "$"
        case Sequence(parts):
            return f"(?:{_words(list(parts))})"
        case Choice(parts):
            return "(?:" + "|".join(map(_word, parts)) + ")"
        case Repeat(part, least, most):
            inner = _word(part) if isinstance(part, Bytes) else f"(?:{_word(part)})"
            return f"{inner}{{{least},{'' if most is None else most}}}"


def _class(node: Bytes) -> str:
    """Return a set as a character, a letter of either case, a class, or the negation of one."""
    values = node.values
    if len(values) == 1:
        return _escaped(min(values))
    if len(values) == 2 and len(set(bytes(values).lower())) == 1:
        return f"(?i:{_escaped(max(values))})"
    if node.wide:
        # In an ASCII text other bytes do not matter, and a negation is faster.
        return f"[^{_ranges(_ASCII - values)}]"
    return f"[{_ranges(values)}]"


def _ranges(values: frozenset[int]) -> str:
    return "".join(
        _escaped(first) if first == last else f"{_escaped(first)}-{_escaped(last)}"
        for first, last in _runs(values)
    )


def _escaped(value: int) -> str:
    return rf"\x{value:02x}"


def _runs(values: frozenset[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in sorted(values):
        if runs and runs[-1][1] == value - 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs
