"""The record of one job's situations, in a limited number of bytes. Pure: times are arguments."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from ktaskd.model.allowance import Reason
from ktaskd.model.job import JobState
from ktaskd.model.story import Cause, Moment, Situation, Story
from ktaskd.planner.limiting import limit_now, limit_of

MOMENTS_MAX = 64
"""Changes that are kept of one job: the first HEAD_KEPT ones, the last ones, and merged ones between them."""

HEAD_KEPT, TAIL_KEPT = 16, 32

SETS_MAX, CAUSES_MAX, WORDS_MAX = 16, 16, 6
"""Different sets of causes, causes whose time is counted, and causes with their words, of one job."""

OTHER = "OTHER"
"""Stands for all causes beyond these."""

SAME_S = 0.02
"""A change that lasts for less is replaced by the next one: it is one event for a reader."""

HISTORY_BYTES = 5 * 1024
"""Most memory of one history; `tests/jobs/test_history.py` checks it."""

_ENTRY = struct.Struct("<fBHBBHH")
"""One moment: seconds, state, helpers, leads, number of the set of causes, recalled, merged."""

_STATES = tuple(JobState)
_NUMBERS = {state: i for i, state in enumerate(_STATES)}
_MOST = 0xFFFF


class Record:
    """The part of a job that its story is made from.

    Attributes:
        history: None = no worker has come yet, or the job was over too soon.
        queued_for: codes of the reasons for which it was not begun at once, without the governor's.
        width: code of what limited the number of its workers; known from its end on.
        early: its helpers and leads while it was too young for a history; None = it had none then.
    """

    __slots__ = ("early", "history", "queued_for", "width")

    def __init__(self) -> None:
        """Start as a job that nothing is known of."""
        self.history: History | None = None
        self.queued_for: tuple[str, ...] = ()
        self.width = ""
        self.early: tuple[int, int] | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes that the history takes; a record without one is part of what each job takes."""
        return self.history.held_bytes if self.history is not None else 0


class History:
    """The situations that one job was in.

    Args:
        origin_s: time of the acceptance on the clock of the caller, who gives times relative to it.

    Attributes:
        wanted: workers that the job may have, as its caller's limits are now.
        width: code of what limits their number.
        now: its situation since the last moment.
    """

    __slots__ = (
        "_details",
        "_entries",
        "_recalled",
        "_sets",
        "_since_s",
        "_times",
        "now",
        "origin_s",
        "wanted",
        "width",
    )

    def __init__(self, origin_s: float, wanted: int, width: str) -> None:
        """Start as an accepted job, of which nothing is known yet."""
        self.origin_s, self.wanted, self.width = origin_s, wanted, width
        self.now = Situation(JobState.QUEUED)
        self._since_s = 0.0
        self._entries = bytearray()
        self._sets: list[tuple[str, ...]] = [()]
        self._times: dict[str, float] = {}
        self._details: dict[str, Reason] = {}
        self._recalled = 0

    @property
    def since_s(self) -> float:
        """Time of the last note."""
        return self._since_s

    @property
    def count(self) -> int:
        """Number of moments that are kept."""
        return len(self._entries) // _ENTRY.size

    def note(
        self, at_s: float, situation: Situation, reasons: Iterable[Reason] = (), recalled: int = 0
    ) -> None:
        """Note the situation from now on.

        Args:
            at_s: seconds since the acceptance.
            reasons: the words for the causes.
            recalled: chunks that were taken back since the acceptance.
        """
        at_s = max(at_s, self._since_s)
        self._count(self._times, at_s)
        self._since_s = at_s
        for reason in reasons:
            if reason.code in self._details or len(self._details) < WORDS_MAX:
                self._details[reason.code] = reason
        if situation != self.now or not self._entries:
            self._append(at_s, situation, recalled)

    def _append(self, at_s: float, situation: Situation, recalled: int) -> None:
        more, merged = recalled - self._recalled, 0
        # The last worker of a job that is about to end leaves soon after it came, and was there all the same.
        if self._entries and (situation.at_work or not self.now.at_work):
            before_s, _, _, _, _, recalled_before, merged_before = self._last
            if at_s - before_s < SAME_S:
                del self._entries[-_ENTRY.size :]
                at_s, more, merged = before_s, more + recalled_before, merged_before
        self.now, self._recalled = situation, recalled
        self._entries += _ENTRY.pack(
            at_s,
            _NUMBERS[situation.state],
            min(situation.helpers, _MOST),
            min(situation.leads, 0xFF),
            self._set(situation.causes),
            min(max(more, 0), _MOST),
            merged,
        )
        if self.count > MOMENTS_MAX:
            self._merge()

    @property
    def _last(self) -> tuple[float, int, int, int, int, int, int]:
        found: tuple[float, int, int, int, int, int, int]
        found = _ENTRY.unpack_from(self._entries, len(self._entries) - _ENTRY.size)
        return found

    def _set(self, causes: tuple[str, ...]) -> int:
        if causes not in self._sets:
            if len(self._sets) >= SETS_MAX:
                return 0
            self._sets.append(causes)
        return self._sets.index(causes)

    def _merge(self) -> None:
        """Merge the shortest moment of the middle into the one before it."""
        entries = list(_ENTRY.iter_unpack(self._entries))
        middle = range(HEAD_KEPT, len(entries) - TAIL_KEPT)
        i = min(middle, key=lambda i: entries[i + 1][0] - entries[i][0])
        before, gone = entries[i - 1], entries.pop(i)
        recalled, merged = before[5] + gone[5], before[6] + gone[6] + 1
        entries[i - 1] = (*before[:5], min(recalled, _MOST), min(merged, _MOST))
        self._entries = bytearray().join(_ENTRY.pack(*entry) for entry in entries)

    def end(self, at_s: float) -> None:
        """Note the end of the job, and keep only the words of the causes that took time."""
        self.note(at_s, self.now)
        if self.count > 1 and not self.now.at_work and at_s - self._last[0] < SAME_S:
            del self._entries[-_ENTRY.size :]  # the last worker has left because the job ended
        self._details = {code: one for code, one in self._details.items() if self._times.get(code)}
        self._entries = bytearray(self._entries)  # without room for more

    @property
    def moments(self) -> tuple[Moment, ...]:
        """The moments that are kept."""
        return tuple(
            Moment(at_s, Situation(_STATES[state], helpers, leads, self._sets[causes]), recalled, merged)
            for at_s, state, helpers, leads, causes, recalled, merged in _ENTRY.iter_unpack(self._entries)
        )

    def story(self, at_s: float, steps_s: float = 0.0) -> Story:
        """Return all of it, up to this time after the acceptance."""
        times = dict(self._times)
        self._count(times, at_s)
        return Story(self.moments, causes_of(times, self._details), limit_of(times), self.wanted, steps_s)

    def _count(self, times: dict[str, float], at_s: float) -> None:
        """Add the time since the last note to that of what limits the job."""
        if at_s > self._since_s:
            code = limit_now(self.now, self.wanted, self.width)
            code = code if code in times or len(times) < CAUSES_MAX - 1 else OTHER
            times[code] = times.get(code, 0.0) + at_s - self._since_s

    @property
    def held_bytes(self) -> int:
        """Bytes that it takes, at least; HISTORY_BYTES at most."""
        sets = sum(64 + 8 * len(one) for one in self._sets)
        words = sum(len(one.message + one.value + one.threshold) + 300 for one in self._details.values())
        return min(700 + len(self._entries) + sets + 80 * len(self._times) + words, HISTORY_BYTES)


def causes_of(times: Mapping[str, float], details: Mapping[str, Reason]) -> tuple[Cause, ...]:
    """Return the causes with their words, the one of most time first."""
    found = sorted(((seconds, code) for code, seconds in times.items() if seconds > 0), reverse=True)
    return tuple(_cause(code, seconds, details.get(code)) for seconds, code in found)


def _cause(code: str, seconds: float, words: Reason | None) -> Cause:
    if words is None:
        return Cause(code, seconds)
    return Cause(code, seconds, words.message, words.value, words.threshold)
