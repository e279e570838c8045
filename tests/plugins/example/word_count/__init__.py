"""example.words: counts the words of a file, like `wc -w`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ktaskd.functions.body import Body, Context, Control
from ktaskd.model.function import Access, Declaration, Partial, SourceRole

PIECE = 1 << 20


class Words(Body):
    """A word belongs to the chunk in which it begins."""

    declaration = Declaration(
        name="example.words",
        summary="Counts words.",
        min_chunk=PIECE,
        probe=4 * PIECE,
        sources=(SourceRole("data", Access.READ, "The text."),),
        partial=Partial.RERUN_SAFE,
        combine=True,
    )

    def run(
        self, context: Context, start: int, end: int, control: Control
    ) -> tuple[int, dict[str, Any] | None]:
        """Count the words that begin in [start, end)."""
        count, at = 0, start
        before = os.pread(context.sources["data"].fd, 1, start - 1) if start else b" "
        while at < end:
            if control.quantum(at):
                break
            piece = os.pread(context.sources["data"].fd, min(PIECE, end - at), at)
            if not piece:
                raise OSError(61, f'source "data": ends at {at}, but the job needs bytes up to {end}')
            inside = not before.isspace() and not piece[:1].isspace()
            count += len(piece.split()) - inside
            before, at = piece[-1:], at + len(piece)
        return at, {"words": count}

    def combine(self, context: Context, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The sum."""
        return {"words": sum(part["words"] for part in parts)}
