"""The free helpers, and how many more may work on each node.

A helper that sleeps in a call, or is stopped, does not count against the allowance of its
node. Another helper then works on its CPU, so that there are helpers beyond one for each CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ktaskd.jobs.cooldown import Cooldowns
from ktaskd.jobs.holders import Holders
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.model.allowance import Allowance
from ktaskd.model.limits import SPARE_HELPERS
from ktaskd.model.topology import Topology


class Helpers:
    """All ready helpers, by node.

    Args:
        allowance: the present allowance.
        wake: called when the pause of a helper has ended.
        want: asks the pool of a node for at least this many helpers: (node, count).
    """

    def __init__(
        self,
        topology: Topology,
        allowance: Callable[[], Allowance],
        wake: Callable[[], None],
        want: Callable[[int, int], None],
    ) -> None:
        """Start without helpers."""
        self.cooldowns = Cooldowns(wake)
        self.holders: Holders[Worker] = Holders(SPARE_HELPERS)
        self._allowance = allowance
        self._want = want
        self._idle: dict[int, dict[Worker, None]] = {node.nid: {} for node in topology.nodes}
        capacity = allowance().helpers
        self.cpus = {node.nid: sorted(node.cpus)[: capacity.get(node.nid, 0)] for node in topology.nodes}

    def add(self, helper: Worker) -> None:
        """Note that a helper holds nothing."""
        self._idle[helper.nid][helper] = None

    def forget(self, helper: Worker) -> None:
        """Forget an idle helper: it gets no more work."""
        self.cooldowns.forget(helper)
        for idle in self._idle.values():
            idle.pop(helper, None)

    def begin(self, helper: Worker, job: Job) -> None:
        """Note that a helper works for a job from now on."""
        self._idle[helper.nid].pop(helper, None)
        self.holders.add(helper, job.owner.uid, job.owner.payer, helper.nid)

    def end(self, helper: Worker) -> None:
        """Note that a helper works for no job any more."""
        self.holders.remove(helper)

    def allowed(self, nid: int) -> int:
        """Return how many helpers of a node may use a CPU."""
        return self._allowance().helpers.get(nid, 0)

    def has_room(self, nid: int) -> bool:
        """Whether one more helper of a node may work."""
        return self.holders.active(nid) < self.allowed(nid)

    def is_over(self, nid: int) -> bool:
        """Whether more helpers of a node use a CPU than allowed, or all helpers are paused."""
        return self.cooldowns.pauses_all or self.holders.active(nid) > self.allowed(nid)

    def may_begin(self, job: Job, nid: int) -> bool:
        """Whether a job may have one more helper of a node, if the node has room for one.

        A job has at most as many helpers as the allowance, blocked or not: calls of its own that
        sleep do not entitle it to more.
        """
        if not self.holders.blocked:
            return True
        own = sum(helper.nid == nid for helper in job.crew.helpers)
        return own < self.allowed(nid) and self.holders.may_begin(job.owner.payer)

    def free(self) -> Iterable[Worker]:
        """Return the helpers that could begin something now."""
        for nid, idle in self._idle.items():
            if idle and self.has_room(nid):
                yield from self.cooldowns.ready(idle)

    def has_free(self, nid: int) -> bool:
        """Whether a node has a helper that could begin something now."""
        return bool(self.cooldowns.ready(self._idle.get(nid, ()))) and self.has_room(nid)

    def want(self, waiting: Iterable[Job], steps: int, may_help: Callable[[Job, int], bool]) -> None:
        """Ask each node for as many helpers as the waiting jobs could use there.

        Args:
            waiting: jobs that wait for helpers, users in turn.
            steps: number of steps that wait.
            may_help: whether a job has work for a helper of a node.
        """
        for nid in self._allowance().helpers:
            busy = self.holders.busy(nid)
            most = self.allowed(nid) + busy - self.holders.active(nid)
            wanted = busy + steps
            for job in waiting:
                if wanted >= most:
                    break
                if may_help(job, nid):
                    wanted += job.helpers_max - len(job.crew.helpers)
            if wanted > busy:
                self._want(nid, min(wanted, most))

    def recall_excess(self) -> None:
        """Recall the chunks of the newest helpers if more use a CPU than allowed."""
        for nid in self.cpus:
            excess = max(self.holders.active(nid) - self.allowed(nid), 0)
            for helper in self.holders.newest_active(nid)[:excess]:
                helper.recall()
