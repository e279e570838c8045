"""Functions that misbehave on purpose, for `ktaskd --selftest`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from ktaskd.functions.body import UNBOUNDED, Body, Context, Control, Json
from ktaskd.functions.transfer import require_size

_SLICE_NS = 1_000_000
"""A quantum of burnt CPU: 1 ms."""


def _burn(position: int, ns: int, control: Control) -> bool:
    """Use `ns` of this thread's CPU time; True if control stopped it earlier."""
    until = time.thread_time_ns() + ns
    look = until - ns + _SLICE_NS
    while (now := time.thread_time_ns()) < until:
        if now >= look:
            look = now + _SLICE_NS
            if control.quantum(position):
                return True
    return False


class Noop(Body):
    """selftest.noop."""

    quantum = UNBOUNDED

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Do nothing."""
        return end, None


class Spin(Body):
    """selftest.spin."""

    quantum = 1

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Burn `ms` per position; an interrupted position is given back whole."""
        ns = int(float(context.arg["ms"]) * 1e6)
        for position in range(start, end):
            if control.quantum(position) or _burn(position, ns, control):
                return position, None
        return end, None


class _AtPosition(Body):
    """Misbehaves at one position and does nothing at the others."""

    quantum = UNBOUNDED

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Misbehave if `at` is in the chunk."""
        at = int(context.arg["at"])
        if start <= at < end:
            if control.quantum(at):
                return at, None
            self.happen(context)
        return end, None

    def happen(self, context: Context) -> None:
        """Misbehave."""
        raise NotImplementedError  # each subclass misbehaves in its own way


class Fail(_AtPosition):
    """selftest.fail."""

    def happen(self, context: Context) -> None:
        """Raise OSError."""
        number = int(context.arg["errno"])
        raise OSError(number, f"failed at position {context.arg['at']}, as asked: {os.strerror(number)}")


class Crash(_AtPosition):
    """selftest.crash."""

    def happen(self, context: Context) -> None:
        """Send the worker a signal; if the signal does not kill it, go on."""
        os.kill(os.getpid(), int(context.arg["signal"]))


class Hang(_AtPosition):
    """selftest.hang."""

    def happen(self, context: Context) -> None:
        """Never return, and ignore recalls and SIGTERM."""
        while True:
            if not context.arg["cpu"]:
                signal.pause()


class UndoLog(Body):
    """selftest.undo_log."""

    def quantum_of(self, context: Context) -> int:
        """A record, since it stops only between two of them."""
        return int(context.arg["record"])

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Add 1 to every byte, one byte per quantum."""
        fail_at = int(context.arg["fail_at"])
        ns = int(float(context.arg["delay_ms"]) * 1e6)
        require_size(context.sources["data"], "data", end)
        record = int(context.arg["record"])
        for position in range(start, end):
            is_wanted_back = control.quantum(position) or (ns and _burn(position, ns, control))
            # Stop only between records: the rest of one that is given back would be no record.
            if is_wanted_back and position % record == 0:
                return position, None
            if position == fail_at:
                raise OSError(5, f"failed at position {position}, as asked")
            _add(context, position, 1)
        control.quantum(end)
        return end, None

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Add 16 to every byte."""
        for position in range(start, end):
            _add(context, position, 16)
            control.quantum(position + 1)
        return []


def _add(context: Context, position: int, amount: int) -> None:
    """Add to one byte, modulo 256."""
    source = context.sources["data"]
    (value,) = os.pread(source.fd, 1, position)
    source.write([bytes([(value + amount) % 256])], position)
