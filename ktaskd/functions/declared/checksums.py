"""Checksums, manifests and their verification."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, KIB, MIB
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_DATA = SourceRole("data", Access.READ, "The file or the memory to read.")


def _crc(name: str, summary: str, *needs: str) -> Declaration:
    return Declaration(
        name=name,
        summary=summary,
        min_chunk=MIB,
        probe=8 * MIB,
        quantum=2 * MIB,
        sources=(_DATA,),
        arguments=(CHANGED,),
        steady=True,
        partial=Partial.RERUN_SAFE,
        combine=True,
        items=True,
        needs=needs,
    )


def _digest(name: str, summary: str, *needs: str) -> Declaration:
    return Declaration(
        name=name,
        summary=summary,
        unit="file",
        bytes_per_position=0,
        sources=(_DATA,),
        arguments=(CHANGED,),
        steady=True,
        partial=Partial.RERUN_SAFE,
        items=True,
        whole_files=True,
        needs=needs,
    )


def _block(default: int) -> Argument:
    summary = "Bytes of one block of data. Items are not cut: each is one whole file."
    return Argument("block", ArgType.INT, default, summary, 4 * KIB, 1 << 40)


_ALGORITHM = Argument(
    "algorithm", ArgType.STRING, "sha256", "Digest: sha256 or blake3.", choices=("sha256", "blake3")
)

_FILE_CRC32 = _crc("file.crc32", "Computes the CRC-32 of the bytes, like zlib.crc32.")

_FILE_CRC32C = _crc(
    "file.crc32c",
    "Computes the CRC-32C (Castagnoli) of the bytes, as in iSCSI, ext4 and btrfs.",
    "crc32c",
    "anycrc",
)

_FILE_SHA256 = _digest("file.sha256", "Computes the SHA-256 of each file, like sha256sum.")

_FILE_SHA512 = _digest("file.sha512", "Computes the SHA-512 of each file, like sha512sum.")

_FILE_BLAKE3 = _digest("file.blake3", "Computes the BLAKE3 of each file, like b3sum.", "blake3")

_FILE_XXH3 = Declaration(
    name="file.xxh3",
    summary="Computes the XXH3 (64 bits) of each block of data, or of each file, like xxhsum -H3.",
    unit="block",
    sources=(_DATA,),
    arguments=(_block(16 * MIB), CHANGED),
    steady=True,
    partial=Partial.RERUN_SAFE,
    items=True,
    record="block",
    needs=("xxhash",),
)

_FILE_MANIFEST = Declaration(
    name="file.manifest",
    summary="Computes a digest of each block of data, or of each file, for a later file.verify.",
    unit="block",
    sources=(_DATA,),
    arguments=(_ALGORITHM, _block(64 * MIB), CHANGED),
    steady=True,
    partial=Partial.RERUN_SAFE,
    items=True,
    record="block",
    lifecycle=True,
)

_FILE_VERIFY = Declaration(
    name="file.verify",
    summary="Checks whether each block of data, or each file, still has the expected digest.",
    unit="block",
    sources=(
        _DATA,
        SourceRole("expected", Access.READ, "The expected digests, 32 bytes per block or file, in order."),
    ),
    arguments=(_ALGORITHM, _block(64 * MIB), CHANGED),
    steady=True,
    partial=Partial.RERUN_SAFE,
    items=True,
    record="block",
    lifecycle=True,
)

DECLARATIONS = (
    _FILE_CRC32,
    _FILE_CRC32C,
    _FILE_SHA256,
    _FILE_SHA512,
    _FILE_BLAKE3,
    _FILE_XXH3,
    _FILE_MANIFEST,
    _FILE_VERIFY,
)
