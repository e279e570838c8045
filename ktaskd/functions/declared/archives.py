"""Files compressed and decompressed."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, KIB, MIB, PAGE
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_NEEDS = ("zstandard", "zlib_ng")
_DECOMPRESS_NEEDS = (*_NEEDS, "numpy", "xxhash")
_UNDO = "dst, which has to be empty, is empty again."
_DST = SourceRole(
    "dst", Access.READ_WRITE, "Where the output goes to; an empty file, or memory that may grow."
)

_FILE_COMPRESS = Declaration(
    name="file.compress",
    summary=(
        "Compresses a file in frames that do not depend on each other: any zstd -d or gzip -d reads them, "
        "and file.decompress does so in parallel. The output is the same for any number of workers. A zstd "
        "file ends with a table of its frames; a gzip member says how long it is. Tells the bytes read, the "
        "bytes of all frames (compressed), and frames."
    ),
    min_chunk=MIB,
    probe=4 * MIB,
    sources=(SourceRole("src", Access.READ, "The file or the memory to compress."), _DST),
    arguments=(
        Argument("format", ArgType.STRING, "zstd", "zstd or gzip.", choices=("zstd", "gzip")),
        Argument("level", ArgType.INT, 0, "1 to 19 for zstd, 1 to 9 for gzip; 0 = 3 or 6, as usual.", 0, 19),
        Argument("frame", ArgType.INT, MIB, "Bytes of src in one frame.", 64 * KIB, 64 * MIB),
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
        "Decompresses zstd and gzip files. In parallel: what file.compress makes, zstd files with a seek "
        "table (the official seekable format, whose checksums are verified), pzstd's, several frames of zstd "
        "that all have their size in the header, and bgzip's. By one worker: a single frame, frames without "
        "sizes, and other gzip files. A seek table with wrong sizes costs time and changes no byte of the "
        "output. "
        "Frames of zstd may need a window of 128 MiB, or what window_log allows. Tells the "
        "bytes written, the bytes read (compressed), frames, 0 where they are not known, and how many bytes "
        "behind the last member of gzip were ignored (garbage)."
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
            "zstd, gzip, or auto = by the first bytes.",
            choices=("auto", "zstd", "gzip"),
        ),
        Argument(
            "window_log",
            ArgType.INT,
            27,
            "Of zstd: frames may need a window of 2 to the power of it in bytes, which is memory of each "
            "worker; 28 to 31 for what zstd --long made.",
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
