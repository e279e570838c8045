"""Collects what a daemon lacks on this machine, and how to get it.

The status and `--check-host` use the same object, which looks again each time: much is found out only after
the start, such as a library that is loaded with the first connection, and some of it changes later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ktaskd.daemon.hostconfig import WorkerUser
from ktaskd.daemon.notify import Notifier
from ktaskd.governor.governor import Governor
from ktaskd.governor.watch import Watch
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.pool.pool import Pool


@dataclass(slots=True)
class Lacking:
    """Returns, when called, what each part of a daemon lacks, in words, each text once.

    Args:
        no_group: why there is no idle cgroup of our own; "" = there is one, or none is needed.
        functions: functions that are not offered, with the reasons.
        pools: pools whose hosts may be missing.
        others: further sources of texts; empty texts do not count.
    """

    user: WorkerUser
    notifier: Notifier
    no_group: str
    functions: Sequence[str]
    watch: Watch
    governor: Governor
    pools: Sequence[Pool]
    raiser: Raiser
    others: list[Callable[[], Iterable[str]]] = field(default_factory=list)

    def __call__(self) -> list[str]:
        """Look again, and return what the daemon lacks now."""
        found = [
            "" if self.user.wanted else self.user.refusal,
            self.notifier.missing,
            self.no_group,
            *self.watch.missing,
            *self.functions,
            *(text for ask in self.others for text in ask()),
            *self.governor.doubted,
            *(pool.trouble for pool in self.pools),
            *self.raiser.missing,
        ]
        return [text for text in dict.fromkeys(found) if text]
