"""Text: lines that match."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, MIB
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_TEXT_SEARCH = Declaration(
    name="text.search",
    summary=(
        "Finds the lines that have a pattern, as grep(1) does: how many, where they begin, or their text, in "
        "order. A line belongs to the range in which it begins. The first matches are told up to the limit "
        "and to 16 KiB (of an item 8 KiB), of a line up to 1000 bytes; the count is of all. A regular "
        "expression is RE2's, on UTF-8, and refuses lines of more than 8 MiB."
    ),
    min_chunk=MIB,
    probe=8 * MIB,
    sources=(SourceRole("data", Access.READ, "The file or the memory to read."),),
    arguments=(
        Argument("pattern", ArgType.STRING, None, "What to look for, up to 4096 bytes."),
        Argument("regex", ArgType.BOOL, False, "It is a regular expression and not a literal."),
        Argument("ignore_case", ArgType.BOOL, False, "Capital and small letters are the same."),
        Argument(
            "show",
            ArgType.STRING,
            "count",
            "What to tell: count, offsets or lines.",
            choices=("count", "offsets", "lines"),
        ),
        Argument("limit", ArgType.INT, 1000, "Most matches that are told.", 1, 1000),
        CHANGED,
    ),
    steady=True,
    partial=Partial.RERUN_SAFE,
    combine=True,
    items=True,
    lifecycle=True,
    needs=("re2",),
)

DECLARATIONS = (_TEXT_SEARCH,)
