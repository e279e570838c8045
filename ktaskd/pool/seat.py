"""The place of a worker in its pool."""

from __future__ import annotations

from dataclasses import dataclass

from ktaskd.model.worker import WorkerClass


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of a worker in its pool.

    Args:
        nid: its node; -1 for a lead.
        cpu: the CPU that it is pinned to; -1 for a lead.
        page: its page of the shared board, as 8-byte words.
    """

    worker_class: WorkerClass
    nid: int
    cpu: int
    page: memoryview
