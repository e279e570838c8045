"""A process's priority for the CPU and the disk."""

from __future__ import annotations

from dataclasses import dataclass

_POLICY_RANK = {"normal": 0, "batch": 1, "idle": 2}
_REALTIME, _BEST_EFFORT = "realtime:", "best-effort:"


@dataclass(frozen=True, slots=True)
class Priority:
    """The priority of one process, in the same terms as `Applied`.

    Args:
        policy: "normal", "batch" or "idle"; any other policy counts as "normal".
        nice: -20 to 19.
        ioprio: "none", "best-effort:N", "realtime:N" or "idle"; "" if unknown.
    """

    policy: str = "normal"
    nice: int = 0
    ioprio: str = "none"

    @property
    def lowered(self) -> bool:
        """Whether the process gets less CPU time than an ordinary one."""
        return self.nice > 0 or self.policy == "idle"

    def standing_in(self, base: Priority) -> Priority:
        """The priority of a worker that stands in for a process with this priority.

        Never above nice 0, never real-time, and never above the priority with which the worker
        was started.

        Args:
            base: the priority with which the worker was started.
        """
        policy = self.policy if _rank(self.policy) >= _rank(base.policy) else base.policy
        policy = policy if policy in _POLICY_RANK else "normal"
        return Priority(policy, max(self.nice, base.nice, 0), self._ioprio(base.ioprio))

    def _ioprio(self, base: str) -> str:
        known = self.ioprio in ("none", "idle") or self.ioprio.startswith((_REALTIME, _BEST_EFFORT))
        if base == "idle" or not known:
            return base
        return self.ioprio.replace(_REALTIME, _BEST_EFFORT)


ORDINARY = Priority()
"""The default priority of a process."""


def _rank(policy: str) -> int:
    return _POLICY_RANK.get(policy, 0)
