"""Follows one cause from reading to reading: doubts, believes, holds. Pure.

A sensor may be wrong for a moment: a battery shows 0 %, a zone 127 degrees. So a cause is
*believed* once two readings that are `confirm_s` apart agree and no reading between them
disagrees. It is believed to be over in the same way. A single reading that its neighbours
contradict therefore changes nothing.

A reading counts *at once* if waiting would be worse than a mistake: the kernel announced it
by an event, it is beyond critical, or no earlier reading is recent enough to compare it with.
If the next reading contradicts it, it is dropped without a hold time, as if it had never been.
A plug is the exception: if the kernel announced both changes, the plug was pulled and put back.

A cause that is over still counts for its `hold_s`, so that the allowance does not flap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ktaskd.governor.facts import Effect, Facts, Words
from ktaskd.governor.settings import GovernorSettings
from ktaskd.model.observation import Events, Observation


def _no_time(_: GovernorSettings) -> float:
    return 0.0


def _no_events(_: Observation) -> Events:
    return Events()


def _never(_: Facts) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Cause:
    """One state of the machine in which helpers give way.

    Args:
        name: unique.
        is_so: whether this reading shows the cause; the second argument is whether the cause
            was believed or held until now.
        describe: the cause in words.
        hold_s: how long it must be gone before it no longer counts, by the facts when it ended.
        onset_s: how long it must last before it counts.
        confirm_s: how far apart two agreeing readings must be; 0 = one is enough, as for
            messages, which are not measured.
        events: the kernel's events about the sensor.
        at_once: whether this reading counts without a second one.
        switches: whether it can begin and end within a moment, like a plug that is pulled and
            put back. A measured value cannot.
    """

    name: str
    code: str
    is_so: Callable[[Facts, bool], bool]
    effect: Callable[[GovernorSettings], Effect]
    describe: Callable[[Facts], Words]
    hold_s: Callable[[Facts], float]
    onset_s: Callable[[GovernorSettings], float] = _no_time
    confirm_s: Callable[[GovernorSettings], float] = _no_time
    events: Callable[[Observation], Events] = _no_events
    at_once: Callable[[Facts], bool] = _never
    switches: bool = False


@dataclass(frozen=True, slots=True)
class Doubt:
    """Consecutive readings that contradict what is believed.

    Args:
        since_s, since_wall_s: when the first of them was read; the second in seconds since the epoch.
        urgent: whether the cause counts meanwhile.
        events: the count of the kernel's events at the first of them.
    """

    since_s: float
    since_wall_s: float
    urgent: bool = False
    events: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """The remembered state of a cause.

    Args:
        so: whether it is believed.
        seen_s: since when it has been so, or when it last was.
        counts: whether it has outlasted its onset, and its hold time is not over.
        since_s: when it began or came back, in seconds since the epoch.
        gone_s, gone_wall_s: since when it has been over, as far as that is believed.
        ended: the reading after which its end was believed.
        doubt: readings that contradict `so`; None = the last reading agrees.
    """

    so: bool = False
    seen_s: float = 0.0
    counts: bool = False
    since_s: float = 0.0
    gone_s: float = 0.0
    gone_wall_s: float = 0.0
    ended: Observation = field(default_factory=Observation)
    doubt: Doubt | None = None

    @property
    def urgent(self) -> bool:
        """Whether it counts because of readings that are not believed yet."""
        return not self.so and self.doubt is not None and self.doubt.urgent

    @property
    def active(self) -> bool:
        """Whether the cause has its effect."""
        return self.counts or self.urgent

    @property
    def over(self) -> bool:
        """Whether it counts only because it has not been over for long enough."""
        return self.counts and not self.urgent and self.so == (self.doubt is not None)

    @property
    def active_wall_s(self) -> float:
        """Since when it counts, in seconds since the epoch."""
        if self.urgent and not self.counts and self.doubt is not None:
            return self.doubt.since_wall_s
        return self.since_s

    @property
    def over_wall_s(self) -> float:
        """Since when it has been over, in seconds since the epoch; only if `over`."""
        return self.doubt.since_wall_s if self.so and self.doubt is not None else self.gone_wall_s


def follow(cause: Cause, before: Held | None, facts: Facts, now_s: float, wall_s: float) -> Held | None:
    """Compute the next state of a cause; None = it is not so and does not count.

    Args:
        now_s: by a clock that never goes back.
        wall_s: the same moment, in seconds since the epoch.
    """
    held = before or Held()
    if facts.blind and not held.urgent:
        held = replace(held, doubt=None)  # a single old reading confirms nothing
    reads = cause.is_so(facts, held.counts)
    if reads == held.so:
        held = _agree(cause, held, facts, now_s, wall_s)
    else:
        held = _contradict(cause, held, facts, now_s, wall_s)
    if reads or held.so:
        return held
    return held if held.counts and now_s - held.gone_s < settle_s(cause, held, facts) else None


def settle_s(cause: Cause, held: Held, facts: Facts) -> float:
    """How long the cause counts after it has ended."""
    return cause.hold_s(replace(facts, seen=held.ended))


def next_look_s(cause: Cause, held: Held, facts: Facts) -> float | None:
    """When a second reading, or time alone, can change the effect of the cause; None = never."""
    if held.doubt is not None:
        return held.doubt.since_s + cause.confirm_s(facts.settings)
    if not held.so:
        return held.gone_s + settle_s(cause, held, facts)
    return None if held.counts else held.seen_s + cause.onset_s(facts.settings)


def _agree(cause: Cause, held: Held, facts: Facts, now_s: float, wall_s: float) -> Held:
    """Handle a reading that agrees with what is believed."""
    doubt = held.doubt
    heard_again = doubt is not None and cause.events(facts.seen).count != doubt.events
    if cause.switches and held.urgent and doubt is not None and heard_again:
        return Held(False, doubt.since_s, True, doubt.since_wall_s, now_s, wall_s, facts.seen)
    lasts = held.so and now_s - held.seen_s >= cause.onset_s(facts.settings)
    return replace(held, doubt=None, counts=held.counts or lasts)


def _contradict(cause: Cause, held: Held, facts: Facts, now_s: float, wall_s: float) -> Held:
    """Handle a reading that contradicts what is believed: doubt it, or believe it."""
    confirm_s = cause.confirm_s(facts.settings)
    doubt = held.doubt or Doubt(now_s, wall_s, events=cause.events(facts.seen).count)
    if confirm_s > 0 and (held.doubt is None or now_s - doubt.since_s < confirm_s):
        return replace(held, doubt=replace(doubt, urgent=doubt.urgent or _is_urgent(cause, held, facts)))
    if held.so:
        held = replace(held, so=False, ended=facts.seen, doubt=None)
        return replace(held, gone_s=doubt.since_s, gone_wall_s=doubt.since_wall_s)
    lasts = now_s - doubt.since_s >= cause.onset_s(facts.settings)
    return Held(True, doubt.since_s, held.counts or lasts, doubt.since_wall_s)


def _is_urgent(cause: Cause, held: Held, facts: Facts) -> bool:
    """Whether a first reading counts at once; never for the end of a cause or one with an onset time."""
    if held.so or cause.onset_s(facts.settings) > 0:
        return False
    return facts.blind or cause.events(facts.seen).recent or cause.at_once(facts)
