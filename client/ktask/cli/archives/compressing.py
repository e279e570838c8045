"""Compresses files and streams."""

from __future__ import annotations

import contextlib
from typing import Any

from ktask.cli.archives.archiver import Archiver
from ktask.cli.archives.names import compressed_name, format_of
from ktask.cli.archives.pieces import pieces, send, worked
from ktask.cli.arguments import UsageError

_FRAME_MIN, _FRAME_MAX = 64 << 10, 64 << 20
"""Bytes of a frame that file.compress accepts."""


class Compressor(Archiver):
    """Compresses files and streams."""

    function = "file.compress"

    def arg(self) -> dict[str, Any]:
        """Format, level and the size of frames."""
        found = {"format": self.options.format, "level": self.options.level}
        if self.options.long is None:
            return found
        return {**found, "frame": min(max(1 << self.options.long, _FRAME_MIN), _FRAME_MAX)}

    def target(self, name: bytes) -> bytes:
        """The name with the suffix of the format; raises UsageError."""
        if self.options.format == "gzip" and format_of(name) == "gzip":
            raise UsageError("has the suffix of gzip already; -o gives another name")
        return compressed_name(name, self.options.format)

    def format_of(self, name: bytes) -> str:
        """The format that was asked for."""
        return str(self.options.format)

    def stream(self, fd: int, end: contextlib.ExitStack) -> None:
        """Compress piece by piece: each becomes frames or members of its own."""
        for packed in worked(self.session, pieces(fd), self.made, self.ahead):
            with packed:
                send(packed)
