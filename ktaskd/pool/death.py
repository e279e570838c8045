"""How a worker ended."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass

from ktaskd.model.limits import POSITION_MAX


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended, and the chunk that it had begun.

    Args:
        status: exit status as of waitpid; None if it is not known.
        seq: the last chunk that it had begun; 0 if none.
        position: the position in that chunk that it had published.
        why: the fault that it was killed for, in words; "" = we did not kill it, or for no fault.
        undoing: whether that chunk had failed, and the worker was undoing it.
        claim: of a lease, the end of the quantum that it had begun.
    """

    status: int | None
    seq: int
    position: int
    why: str = ""
    undoing: bool = False
    claim: int = POSITION_MAX

    @property
    def signal(self) -> int:
        """The signal that killed it; 0 if none or not known."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else 0

    @property
    def by_itself(self) -> bool:
        """Whether the worker caused its death, as far as is known: killed for a fault, or not killed."""
        return bool(self.why) or (self.status is not None and self.signal != signal.SIGKILL)

    def __str__(self) -> str:
        """In words: "killed by SIGSEGV", "exit status 70"."""
        if self.why:
            return self.why
        if self.status is None:
            return "died, exit status not known"
        if self.signal:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(self.signal).name}"
            return f"killed by signal {self.signal}"
        return f"exit status {os.WEXITSTATUS(self.status)}"
