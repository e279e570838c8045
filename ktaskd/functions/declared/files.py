"""Files as a whole: copy."""

from __future__ import annotations

from ktaskd.functions.declared.sizes import MIB, PAGE
from ktaskd.model.function import Access, Declaration, Partial, SourceRole

_FILE_COPY = Declaration(
    name="file.copy",
    summary="Copies bytes to the same positions of another file or memory, holes included.",
    align=PAGE,
    min_chunk=MIB,
    probe=4 * MIB,
    sources=(
        SourceRole("src", Access.READ, "Where the bytes come from."),
        SourceRole("dst", Access.WRITE, "Where the bytes go to; made longer where needed."),
    ),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    undo=True,
    reports=True,
    undo_summary=(
        "What was a hole or lay beyond the end of dst is a hole or gone again, and dst has its old length. "
        "Data of dst that was copied over cannot be brought back: those ranges are dirty. Where it cannot be "
        "asked for the holes of dst, blocks of zeros count as holes."
    ),
    lifecycle=True,
)

DECLARATIONS = (_FILE_COPY,)
