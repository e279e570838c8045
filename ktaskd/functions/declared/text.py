"""Text: search for lines."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, KIB, MIB
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole
from ktaskd.model.limits import POSITION_MAX

_PATTERN = (
    Argument("pattern", ArgType.STRING, None, "The text or regular expression to find, up to 4096 bytes."),
    Argument("regex", ArgType.BOOL, False, "The pattern is a regular expression and not a literal."),
    Argument("ignore_case", ArgType.BOOL, False, "Treat upper and lower case as equal."),
    Argument("invert", ArgType.BOOL, False, "Find the lines that do not match."),
)

_TEXT_SEARCH = Declaration(
    name="text.search",
    summary=(
        "Finds the lines that match a pattern, like grep(1): how many there are, where they begin, or their "
        "text, in order. A line belongs to the range in which it begins. Returns the first matches up to the "
        "limit and up to 16 KiB (8 KiB for an item), each line up to 1000 bytes; the count covers all "
        "matches. A regular expression has the syntax of RE2, works on UTF-8, and refuses lines of more than "
        "8 MiB."
    ),
    min_chunk=MIB,
    probe=8 * MIB,
    quantum=256 * KIB,
    sources=(SourceRole("data", Access.READ, "The file or the memory to read."),),
    arguments=(
        *_PATTERN,
        Argument(
            "show",
            ArgType.STRING,
            "count",
            "The result to return: count, offsets or lines.",
            choices=("count", "offsets", "lines"),
        ),
        Argument("limit", ArgType.INT, 1000, "Most matches to return.", 1, 1000),
        CHANGED,
    ),
    steady=True,
    partial=Partial.RERUN_SAFE,
    combine=True,
    items=True,
    lifecycle=True,
    needs=("re2",),
)

_TEXT_EXTRACT = Declaration(
    name="text.extract",
    summary=(
        "Writes the lines that match a pattern, each with its newline, to their own positions, less base, in "
        "memory that reads as zeros, and returns how many they are. A line belongs to the range in which it "
        "begins, and may end up to 8 MiB behind it. The result's zero is the position of the first such line "
        "with a zero byte in it, or -1. Patterns as for text.search; refuses lines of more than 8 MiB."
    ),
    min_chunk=MIB,
    probe=8 * MIB,
    quantum=256 * KIB,
    sources=(
        SourceRole("data", Access.READ, "The file or the memory to read."),
        SourceRole("lines", Access.WRITE, "The memory to write lines to.", memory_only=True),
    ),
    arguments=(
        *_PATTERN,
        Argument(
            "base",
            ArgType.INT,
            0,
            "Position of the source that belongs to the begin of the memory.",
            0,
            POSITION_MAX,
        ),
        Argument(
            "compact",
            ArgType.BOOL,
            False,
            "Write lines that are found together one after the other, from the position of the first on.",
        ),
        CHANGED,
    ),
    steady=True,
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    undo=True,
    undo_summary="The memory reads as zeros again.",
    combine=True,
    lifecycle=True,
    needs=("re2",),
)

DECLARATIONS = (_TEXT_SEARCH, _TEXT_EXTRACT)
