"""What reads meaning: search, arrays."""

from __future__ import annotations

from ktaskd.model.function import Declaration

DECLARATIONS: tuple[Declaration, ...] = ()
