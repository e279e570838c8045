"""Names of compressed files, as zstd and gzip choose them. Pure."""

from __future__ import annotations

SUFFIXES = {"zstd": b".zst", "gzip": b".gz"}

_PLAIN = {b".zst": b"", b".tzst": b".tar", b".gz": b"", b".tgz": b".tar"}
_FORMATS = {b".zst": "zstd", b".tzst": "zstd", b".gz": "gzip", b".tgz": "gzip"}


def compressed_name(name: bytes, form: str) -> bytes:
    """The name of the compressed file."""
    return name + SUFFIXES[form]


def plain_name(name: bytes) -> bytes | None:
    """The name of the decompressed file; None if the suffix is not known."""
    for suffix, instead in _PLAIN.items():
        stem = name.removesuffix(suffix)
        if stem != name and not stem.endswith(b"/") and stem:
            return stem + instead
    return None


def format_of(name: bytes) -> str:
    """The format that the suffix of a compressed file stands for; "" if it is not known."""
    return next((form for suffix, form in _FORMATS.items() if name.endswith(suffix)), "")
