"""Copies bytes, holes included."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ktaskd.functions.body import Context, Control, Json
from ktaskd.functions.choosing import Fastest
from ktaskd.functions.failures import target_changed
from ktaskd.functions.files.copying import Crc, Step
from ktaskd.functions.memory.node_pages import CountsPages, count_pages, step_of
from ktaskd.functions.quanta import PAGE, Buffered, cut
from ktaskd.functions.restoring import Target, grow
from ktaskd.functions.transfer import Naming, require_size
from ktaskd.model.source import F_SEAL_SHRINK

_QUANTUM = 4 << 20
"""About 1 ms of work. Half as many reports as with 2 MiB, each of which takes 0.1 ms."""


class Copy(Buffered):
    """file.copy."""

    quantum = _QUANTUM

    def __init__(self) -> None:
        """Begin without a job."""
        super().__init__()
        self._of: Context | None = None
        self._fastest = Fastest()

    def wipe(self) -> None:
        """Erase the buffer, and forget the job."""
        super().wipe()
        self._of = None

    def prepare(self, context: Context) -> Json:
        """Find the length that dst needs.

        Returns:
            "old_size" and "new_size" of dst, "src_size", and the spans that will change.
        Raises:
            OSError: src and dst are the same file, src is too short, or dst cannot be cut.
        """
        src, dst = context.sources["src"], context.sources["dst"]
        if (src.facts.device, src.facts.inode) == (dst.facts.device, dst.facts.inode):
            raise OSError(errno.EINVAL, 'source "dst": is the same file as "src", wanted another file')
        end = context.span[1]
        require_size(src, "src", end)
        src_size, old_size = src.size(), dst.size()
        if context.whole and old_size > src_size and dst.facts.seals & F_SEAL_SHRINK:
            raise OSError(
                errno.EPERM,
                f'source "dst": is sealed against shrinking and cannot be cut from {old_size} to {src_size} '
                "bytes; name ranges to copy into a part of it",
            )
        new_size = max(old_size, end)
        cut = context.whole and old_size > src_size
        return {
            "old_size": old_size,
            "new_size": new_size,
            "src_size": src_size,
            "by_prepare": [[old_size, new_size]] if new_size > old_size else [],
            "by_finish": [[src_size, old_size]] if cut else [],
        }

    def begin(self, context: Context, prepared: Json) -> None:
        """Extend dst to its new length by a hole; raises OSError if that is not possible."""
        old_size, new_size = int(prepared["old_size"]), int(prepared["new_size"])
        if new_size > old_size:
            grow(context.sources["dst"], "dst", old_size, new_size)

    def finish(self, context: Context, prepared: Json, control: Control) -> None:
        """Give dst the length of src, if all of src was copied.

        Raises:
            OSError: src changed its length meanwhile, so dst is no copy of it.
        """
        dst = context.sources["dst"]
        if not context.whole:
            require_size(dst, "dst", int(prepared["new_size"]))
            return
        size, wanted = context.sources["src"].size(), int(prepared["src_size"])
        if size != wanted or context.span[1] != wanted:
            got = size if size != wanted else context.span[1]
            raise OSError(
                errno.ESTALE,
                f'source "src": changed its length while it was copied, from {wanted} to {got} bytes',
            )
        # dst already has its final length if a worker died right after it had cut it.
        if dst.size() not in (wanted, int(prepared["new_size"])):
            words = f"it is {dst.size()} bytes long instead of {prepared['new_size']}"
            raise target_changed("dst", words)
        if dst.size() > wanted:
            with Naming("dst", "cut", wanted, dst.size()):
                os.ftruncate(dst.fd, wanted)

    def restore(self, context: Context, prepared: Json) -> None:
        """Give dst its old length back, if it still has the one that begin gave it."""
        dst = context.sources["dst"]
        old_size, new_size = int(prepared["old_size"]), int(prepared["new_size"])
        if new_size > old_size and dst.size() == new_size:
            os.ftruncate(dst.fd, old_size)

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Copy [start, end)."""
        return self._copy(self._step_of(context), context, (start, end), control)

    def _step_of(self, context: Context) -> Step:
        if self._of is not context:
            self._of, self._fastest = context, Fastest()
        target = Target(context.sources["dst"], "dst", self._buffer)
        crc = Crc() if context.arg.get("checksum") else None
        return Step(context.sources["src"], target, self._buffer, crc, self._fastest)

    def _copy(
        self, step: Step, context: Context, span: tuple[int, int], control: Control
    ) -> tuple[int, Json | None]:
        """Copy a span until control stops it."""
        (start, end), crc, target = span, step.crc, step.target
        src, dst = step.src, target.source
        step.look_for_holes(start, end)
        for first, after in cut(start, end, _QUANTUM):
            if control.quantum(first):
                return first, _copied(first - start, crc)
            require_size(src, "src", after)
            require_size(dst, "dst", context.span[1])
            dst_holes = target.holes(first, after)
            # Reported even if there are no holes: it announces the write.
            control.prior(first, after, dst_holes)
            target.touched = first
            try:
                step.copy(first, after, dst_holes)
            except BaseException:
                # Report exactly the bytes that may have changed, so that no others are undone.
                control.quantum(target.touched)
                raise
        control.quantum(end)
        require_size(dst, "dst", context.span[1])
        return end, _copied(end - start, crc)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The bytes copied, and their checksum if requested."""
        crc = Crc() if context.arg.get("checksum") else None
        for part in parts:
            if crc is not None:
                crc.join(part["crc32"], part["bytes"])
        return _copied(sum(part["bytes"] for part in parts), crc)

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Turn the former holes into holes again.

        Returns:
            All other spans: they were overwritten, and the old bytes are gone.
        """
        return Target(context.sources["dst"], "dst", self._buffer).restore(start, end, holes, control)


class MemCopy(CountsPages, Copy):
    """mem.copy: the same between memory, with the NUMA nodes of dst's pages in the result."""

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Copy [start, end)."""
        step = self._step_of(context)
        if step_of(context) == PAGE:
            step.fastest = None
        reached, _ = self._copy(step, context, (start, end), control)
        if not step.target.mapped:
            return reached, None
        for span in step.written:
            with Naming("dst", "map", span.start, span.end):
                step.target.source.touch(span.start, span.end, step_of(context))
        return reached, count_pages(context, "dst", start, reached)


def _copied(count: int, crc: Crc | None) -> Json:
    return {"bytes": count, **({"crc32": crc.value} if crc is not None else {})}
