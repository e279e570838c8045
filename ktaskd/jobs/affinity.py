"""Which CPUs workers may use, next to helpers that are pinned to theirs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ktaskd.model.topology import Node


def lead_cpus(allowed: frozenset[int], taken: frozenset[int], leads: int = 1) -> frozenset[int]:
    """Return the CPUs of a lead: its caller's, without those in `taken` while enough others are free.

    The kernel takes a CPU that only runs SCHED_IDLE work for an idle one when it
    places a normal thread, so it would put the lead right there. But leads must not share
    the free CPUs while a helper has one for itself.

    Args:
        leads: how many leads use a CPU.
    """
    free = allowed - taken
    return free if len(free) >= max(leads, 1) else allowed


def quietest_cpu(node: Node | None, taken: Iterable[int]) -> int:
    """Return the CPU of a node that occurs least in `taken`; -1 if there is no node."""
    counts = Counter(taken)
    return min(sorted(node.cpus), key=counts.__getitem__, default=-1) if node is not None else -1
