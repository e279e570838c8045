"""Checksums."""

from __future__ import annotations

from ktaskd.functions.declared.sizes import MIB
from ktaskd.model.function import Access, Declaration, Partial, SourceRole


_FILE_CRC32 = Declaration(
    name="file.crc32",
    summary="Computes the CRC-32 of the bytes, the same as zlib.crc32.",
    min_chunk=MIB,
    probe=8 * MIB,
    sources=(SourceRole("data", Access.READ, "The file or the memory to read."),),
    partial=Partial.RERUN_SAFE,
    combine=True,
    items=True,
)

DECLARATIONS = (_FILE_CRC32,)
