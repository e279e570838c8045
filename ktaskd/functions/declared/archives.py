"""Compression and decompression."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, KIB, MIB, PAGE
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_NEEDS = ("zstandard", "zlib_ng")
_DECOMPRESS_NEEDS = (*_NEEDS, "numpy", "xxhash")
_UNDO = "Empties dst, which had to be empty before."
_DST = SourceRole("dst", Access.READ_WRITE, "The output: an empty file, or empty memory that can grow.")

_FILE_COMPRESS = Declaration(
    name="file.compress",
    summary=(
        "Compresses a file in independent frames: any zstd -d or gzip -d can decompress it, and "
        "file.decompress does so in parallel. The output is the same for any number of workers. A zstd file "
        "ends with a table of its frames; a gzip member states its length in its header. Returns the bytes "
        "read (bytes), the bytes of all frames (compressed), and the number of frames (frames)."
    ),
    min_chunk=MIB,
    probe=4 * MIB,
    sources=(SourceRole("src", Access.READ, "The file or the memory to compress."), _DST),
    arguments=(
        Argument("format", ArgType.STRING, "zstd", "Format: zstd or gzip.", choices=("zstd", "gzip")),
        Argument(
            "level",
            ArgType.INT,
            0,
            "Compression level: 1 to 19 for zstd, 1 to 9 for gzip; 0 = the usual level, 3 or 6.",
            0,
            19,
        ),
        Argument("frame", ArgType.INT, MIB, "Bytes of src in each frame.", 64 * KIB, 64 * MIB),
        CHANGED,
    ),
    steady=True,
    boundary="frame",
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    undo=True,
    undo_summary=_UNDO,
    combine=True,
    lifecycle=True,
    long_finish=True,
    needs=_NEEDS,
)

_FILE_DECOMPRESS = Declaration(
    name="file.decompress",
    summary=(
        "Decompresses zstd and gzip files. In parallel: files from file.compress, pzstd and bgzip, zstd "
        "files with a seek table (the official seekable format, whose checksums are verified), and zstd "
        "files of several frames that all state their size. By one worker: a single frame, frames without "
        "sizes, and other gzip files. A seek table with wrong sizes costs time but does not change the "
        "output. A zstd frame may need a window of up to 128 MiB, or as window_log allows. Returns the bytes "
        "written (bytes), the bytes read (compressed), the number of frames (frames; 0 = not known), and the "
        "number of ignored bytes after the last gzip member (garbage)."
    ),
    align=PAGE,
    min_chunk=MIB,
    probe=4 * MIB,
    sources=(SourceRole("src", Access.READ, "The file or the memory to decompress."), _DST),
    arguments=(
        Argument(
            "format",
            ArgType.STRING,
            "auto",
            "Format: zstd or gzip; auto = by the first bytes.",
            choices=("auto", "zstd", "gzip"),
        ),
        Argument(
            "window_log",
            ArgType.INT,
            27,
            "For zstd: largest window that a frame may need, as a power of 2 in bytes. Each worker needs "
            "that much memory. Files from zstd --long need 28 to 31.",
            10,
            31,
        ),
        CHANGED,
    ),
    steady=True,
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    undo=True,
    undo_summary=_UNDO,
    combine=True,
    lifecycle=True,
    long_finish=True,
    needs=_DECOMPRESS_NEEDS,
)

DECLARATIONS = (_FILE_COMPRESS, _FILE_DECOMPRESS)
