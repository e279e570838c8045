"""Errors of bodies that tell the job more than an errno."""

from __future__ import annotations

import errno
from collections.abc import Sequence

SOURCE_CHANGED = "SOURCE_CHANGED"
TARGET_CHANGED = "TARGET_CHANGED"

REASONS = frozenset({SOURCE_CHANGED, TARGET_CHANGED})
"""Reasons that a body may give for a job's error; everything else is FUNCTION_ERROR."""


class Failed(OSError):
    """A chunk or a step has failed.

    Args:
        reason: one of REASONS; "" = FUNCTION_ERROR.
        dirty: spans outside of the chunk that may have changed, as (start, end).
    """

    def __init__(
        self, number: int, words: str, *, reason: str = "", dirty: Sequence[tuple[int, int]] = ()
    ) -> None:
        """As an OSError."""
        super().__init__(number, words)
        self.reason = reason
        self.dirty = tuple(dirty)


def source_changed(role: str, difference: str) -> Failed:
    """The error for a source that somebody changed while the job read it."""
    words = f'source "{role}": changed while it was read: {difference}'
    return Failed(errno.ESTALE, words, reason=SOURCE_CHANGED)


def target_changed(role: str, difference: str) -> Failed:
    """The error for a target that somebody else changed while the job wrote it."""
    words = f'source "{role}": somebody else changed it while the job wrote it: {difference}'
    return Failed(errno.ESTALE, words, reason=TARGET_CHANGED)
