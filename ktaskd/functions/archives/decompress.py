"""Decompresses frames in parallel, if it is known where they are and how long they become."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, cast

import zstandard
from xxhash import xxh64
from zlib_ng import zlib_ng

from ktaskd.functions.archives import framing
from ktaskd.functions.archives.compress import Written, require_empty_target
from ktaskd.functions.archives.frames import Astray, Frames, Stopped, Tick, Unreadable
from ktaskd.functions.archives.framing import GZIP_MAGIC
from ktaskd.functions.archives.sums import Sum
from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.failures import source_changed, target_changed
from ktaskd.functions.quanta import BUFFER, QUANTUM, Buffered, cut, pass_over
from ktaskd.functions.restoring import has_holes
from ktaskd.functions.transfer import Naming, read_full, require_size, write_full
from ktaskd.model.limits import POSITION_MAX

_GZIP_ERROR: type[Exception] = zlib_ng.error  # type: ignore[assignment]


@dataclass(slots=True)
class _Known:
    """Facts about a job's source.

    Args:
        garbage: bytes after the last member that are neither a member nor zeros; known once
            one worker has decompressed the whole file.
    """

    context: Context
    decode: Decode
    frames: Frames | None = None
    garbage: int = 0

    @property
    def source(self) -> OpenSource:
        """The compressed file."""
        return self.context.sources["src"]

    @property
    def window_log(self) -> int:
        """The largest window that a frame may have, as a power of 2."""
        return int(self.context.arg.get("window_log", framing.WINDOW_LOG))


Decode = Callable[[_Known, int, int, bytearray, Tick], Iterator[memoryview]]
Find = Callable[[_Known, Tick], Frames | None]


class Decompress(Written, Buffered):
    """file.decompress.

    A frame belongs to the chunk in which it begins. If a file does not say where its frames
    are, or how long they become, the chunk at 0 decompresses all of it.
    """

    quantum = QUANTUM

    def __init__(self) -> None:
        """Allocate a buffer for decompressed bytes."""
        super().__init__()
        self._known: _Known | None = None

    def wipe(self) -> None:
        """Erase the buffer, and forget the frames."""
        super().wipe()
        self._known = None

    def prepare(self, context: Context) -> Json:
        """Look for the source's frames.

        Returns:
            "size": decompressed bytes, -1 = not known yet; and the spans that will change.
        Raises:
            OSError: the source is no compressed file, or is broken; or the target is unsuitable.
        """
        require_empty_target(context)
        if context.span[1] == 0:
            raise Unreadable(0, "is empty, wanted a zstd or a gzip file")
        frames = self._look(context).frames
        if frames is None or not frames.sure:
            return {"size": frames.size if frames else -1, "by_prepare": [[0, POSITION_MAX]]}
        return {"size": frames.size, "by_prepare": [[0, frames.size]]}

    def begin(self, context: Context, prepared: Json) -> None:
        """Extend the target to its final length, if that is known."""
        size = int(prepared["size"])
        if size > 0:
            with Naming("dst", "extend", 0, size):
                os.ftruncate(context.sources["dst"].fd, size)

    def _look(self, context: Context, tick: Tick = lambda: False) -> _Known:
        """The facts about the source, found out once for each job. Raises Stopped."""
        if self._known is None or self._known.context is not context:
            find, decode = _FORMATS[_format_of(context)]
            known = _Known(context, decode)
            known.frames = find(known, tick)
            self._known = known
        return self._known

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Decompress the frames that begin in [start, end)."""
        try:
            known = self._look(context, lambda: control.quantum(start))
            if known.frames is None:
                return self._all(context, known, start, end, control)
        except Stopped:
            return start, None
        reached, total, count, frames = start, Sum(), 0, known.frames
        astray: Json = {}
        for number in frames.beginning_in(start, end):
            at = frames.starts[number]
            if (reached := pass_over(control, reached, at, QUANTUM)) < at:
                return reached, _part(total, reached - start, count)
            try:
                total.join(self._frame(context, known, frames, number, control))
            except Stopped:
                return at, _part(total, at - start, count)
            except Astray:
                if frames.sure:
                    raise
                astray = {"_astray": at}
                break
            count += 1
        reached = pass_over(control, reached, end, QUANTUM)
        return reached, {**_part(total, reached - start, count), **astray}

    def _frame(self, context: Context, known: _Known, frames: Frames, number: int, control: Control) -> Sum:
        """Decompress one frame; returns the sum of its decompressed bytes.

        Raises:
            Astray: it does not end where it should, or becomes longer or shorter than it should.
            Stopped: control stopped it.
        """
        start, end, limit = frames.starts[number], frames.ends[number], frames.limit(number)
        place, dst, written = frames.places[number], context.sources["dst"], Sum()
        check = xxh64() if frames.checks else None
        for piece in known.decode(known, start, end, self._buffer, lambda: control.quantum(start)):
            if control.quantum(start):
                raise Stopped
            if limit is not None and written.length + len(piece) > limit:
                raise Astray(start, f"becomes longer than the {limit} bytes that its header states")
            require_size(dst, "dst", frames.size if limit is not None else place + written.length)
            write_full(dst, "dst", place + written.length, piece)
            written.add(piece)
            if check is not None:
                check.update(piece)
        if limit is not None and written.length != limit:
            raise Astray(start, f"becomes {written.length} bytes long, but its header states {limit}")
        if check is not None and check.intdigest() & 0xFFFFFFFF != frames.checks[number]:
            raise Unreadable(start, "the frame does not match its checksum in the seek table")
        return written

    def _all(
        self, context: Context, known: _Known, start: int, end: int, control: Control
    ) -> tuple[int, Json | None]:
        """Decompress the whole file if this is its first chunk."""
        written = Sum()
        if start == 0:
            self._append(context, known, 0, written, control)
        reached = pass_over(control, start, end, QUANTUM)
        part = _part(written, reached - start, 0)
        return reached, {**part, "garbage": known.garbage} if start == 0 and known.garbage else part

    def _append(self, context: Context, known: _Known, start: int, written: Sum, control: Control) -> None:
        """Decompress everything from `start` on, and append it where `written` ends; raises Stopped."""
        dst = context.sources["dst"]
        for piece in known.decode(
            known, start, known.source.size(), self._buffer, lambda: control.quantum(start)
        ):
            if control.quantum(start):
                raise Stopped
            require_size(dst, "dst", written.length)
            write_full(dst, "dst", written.length, piece)
            written.add(piece)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sums: bytes written, bytes read, frames found (0 = the file does not name them).

        "garbage", if there is any, counts the ignored bytes after the last gzip member.
        """
        written, frames, astray = Sum(), 0, None
        for part in parts:
            if astray is None:
                written.join(Sum(part["bytes"], part["_crc"]))
                frames, astray = frames + part["frames"], part.get("_astray")
        found = _part(written, sum(part["compressed"] for part in parts), frames)
        garbage = sum(part.get("garbage", 0) for part in parts)
        return {
            **found,
            **({"garbage": garbage} if garbage else {}),
            **({} if astray is None else {"_astray": astray}),
        }

    def finish(self, context: Context, prepared: Json, control: Control) -> Json:
        """Check that the source has the same length, and that nobody has cut the target.

        If a frame was not as the seek table or pzstd stated, the places of all frames after it
        were wrong: decompress everything from that frame on.

        Returns:
            The values of the result that change.
        Raises:
            OSError: the source or the target has changed, or control stopped it.
        """
        size, wanted = context.sources["src"].size(), context.span[1]
        if size != wanted:
            words = f"changed its length while it was decompressed, from {wanted} to {size} bytes"
            raise OSError(errno.ESTALE, f'source "src": {words}')
        written = Sum(context.combined["bytes"], context.combined["_crc"])
        astray = context.combined.get("_astray")
        if astray is not None:
            self._finish_astray(context, int(astray), written, control)
        self._check_target(context.sources["dst"], written, control)
        return {} if astray is None else {"bytes": written.length, "frames": 0}

    def _finish_astray(self, context: Context, start: int, written: Sum, control: Control) -> None:
        """Decompress everything from `start` on; `written` covers everything before it, and grows."""
        dst = context.sources["dst"]
        try:
            known = self._look(context, lambda: control.quantum(0))
            number = known.frames.number_at(start) if known.frames else None
            if known.frames is None or number is None or known.frames.places[number] != written.length:
                raise source_changed("src", "its seek table or its frames are not where they were")
            require_size(dst, "dst", written.length)
            with Naming("dst", "cut", written.length, dst.size()):
                os.ftruncate(dst.fd, written.length)
            self._append(context, known, start, written, control)
        except Stopped:
            raise OSError(errno.ECANCELED, "stopped before all frames were decompressed") from None

    def _check_target(self, dst: OpenSource, wanted: Sum, control: Control) -> None:
        """Raise Failed if dst is not as written; reads all of it only if it has holes."""
        found = Sum()
        if dst.size() != wanted.length:
            raise target_changed("dst", f"it is {dst.size()} bytes long instead of {wanted.length}")
        if not has_holes(dst, wanted.length):
            return
        for first, after in cut(0, wanted.length, BUFFER):
            control.quantum(0)
            with memoryview(self._buffer)[: after - first] as view:
                read_full(dst, "dst", first, view)
                found.add(view)
        if found != wanted:
            raise target_changed("dst", "its bytes are not the ones that the job wrote")


def _part(written: Sum, compressed: int, frames: int) -> Json:
    return {"bytes": written.length, "compressed": compressed, "frames": frames, "_crc": written.crc}


def _format_of(context: Context) -> str:
    name = str(context.arg["format"])
    if name not in ("auto", *_FORMATS):
        raise OSError(errno.EINVAL, f'argument "format": got "{name[:64]}", wanted auto, zstd or gzip')
    return framing.format_of(context.sources["src"]) if name == "auto" else name


class _Part:
    """Some bytes of a source as a file object."""

    def __init__(self, source: OpenSource, start: int, end: int) -> None:
        self._fd = source.fd
        self._at = start
        self._end = end

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        left = self._end - self._at
        content = os.pread(self._fd, left if size < 0 else min(size, left), self._at)
        self._at += len(content)
        return content


def _find_zstd(known: _Known, tick: Tick) -> Frames | None:
    return framing.find_zstd(known.source, tick, known.window_log)


def _decode_zstd(known: _Known, start: int, end: int, buffer: bytearray, tick: Tick) -> Iterator[memoryview]:
    """Decompress frame by frame. Finds each end first: the library accepts a frame that is cut off."""
    source, size = known.source, known.source.size()
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << known.window_log)
    walk = framing.Walk(source, tick, POSITION_MAX, known.window_log)
    while start < end:
        begin = os.pread(source.fd, framing.ZSTD_HEADER, start)
        stop = walk.next(start, begin, size)
        if stop > end:
            raise Astray(start, f"ends at {stop}, after the {end} that was stated for it")
        if not framing.is_skippable(begin):
            part = cast("IO[bytes]", _Part(source, start, stop))
            reader = decompressor.stream_reader(part, read_size=BUFFER)
            try:
                with memoryview(buffer) as view:
                    while count := reader.readinto(view):
                        yield view[:count]
            except zstandard.ZstdError as error:
                raise Unreadable(start, f"cannot be decompressed: {error}") from error
        start = stop


def _find_gzip(known: _Known, tick: Tick) -> Frames | None:
    return framing.find_gzip(known.source, tick)


def _decode_gzip(known: _Known, start: int, end: int, buffer: bytearray, tick: Tick) -> Iterator[memoryview]:
    """Decompress member by member; bytes after the last member are ignored, as in gzip(1).

    gzip reports such bytes as trailing garbage unless they are zeros. Errors name the position of
    the first member, since those of the others are not known.
    """
    part, left, members = _Part(known.source, start, end), b"", 0
    while left or (left := part.read(BUFFER)):
        if members and len(left) < len(GZIP_MAGIC):
            left += part.read(BUFFER)
        if members and not GZIP_MAGIC.startswith(left[: len(GZIP_MAGIC)]):
            known.garbage = _garbage(left, part, tick)
            return
        members += 1
        member = zlib_ng.decompressobj(16 + zlib_ng.MAX_WBITS)
        try:
            while not member.eof:
                content = member.decompress(left, len(buffer))
                left = member.unconsumed_tail
                yield memoryview(content)
                if not member.eof and not left and not (left := part.read(BUFFER)):
                    raise Unreadable(end, "the file ends within a member")
        except _GZIP_ERROR as error:
            raise Unreadable(start, f"cannot be decompressed: {error}") from error
        left = member.unused_data


def _garbage(first: bytes, rest: _Part, tick: Tick) -> int:
    """Number of bytes in `first` and the rest of the source; 0 if all are zeros."""
    count, piece, zeros = 0, first, True
    while piece:
        if tick():
            raise Stopped
        count, zeros = count + len(piece), zeros and not piece.strip(b"\0")
        piece = rest.read(BUFFER)
    return 0 if zeros else count


_FORMATS: Mapping[str, tuple[Find, Decode]] = {
    "zstd": (_find_zstd, _decode_zstd),
    "gzip": (_find_gzip, _decode_gzip),
}
