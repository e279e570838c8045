"""The client's own names of a job's sources, as many as are kept. Pure."""

from __future__ import annotations

from ktaskd.model.limits import NAME_CHARS_KEPT, NAMES_CHARS_KEPT, NAMES_KEPT

_CUT = "\N{HORIZONTAL ELLIPSIS}"


class Names:
    """Keeps the first names of one job, within the limits of their number and length."""

    def __init__(self) -> None:
        """Keep none yet."""
        self._left, self._chars_left = NAMES_KEPT, NAMES_CHARS_KEPT

    def keep(self, name: str) -> str:
        """Return as much of a name as is kept: its end, which tells long paths apart, or ""."""
        if not name or not self._left:
            return ""
        kept = name if len(name) <= NAME_CHARS_KEPT else _CUT + name[1 - NAME_CHARS_KEPT :]
        if len(kept) > self._chars_left:
            self._left = 0
            return ""
        self._left, self._chars_left = self._left - 1, self._chars_left - len(kept)
        return kept
