"""Many clients of several uids at once: what each uid gets of the workers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import Daemon, Stubs, connected, running, until, write_config
from tests.support.users import OtherUsers, reachable_directory

FIRST_UID = 60001

CLIENT = """
import json, sys, threading
import grpc
from ktask.v1 import jobs_pb2 as pb
from ktask.v1.jobs_pb2_grpc import JobsStub

directory, clients, positions, ms, threads = sys.argv[1], *map(int, sys.argv[2:])
job = pb.JobSpec(function="selftest.spin", ranges=[pb.Range(length=positions)], max_threads=threads)
job.arg["ms"] = ms

def work(i):
    "One client: a connection of its own, and always one job; every other client waits for it."
    options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"unix:{directory}/ktaskd.sock", options) as channel:
        jobs = JobsStub(channel)
        try:
            while True:
                if i % 2:
                    jobs.Run(pb.RunRequest(spec=job))
                else:
                    one = jobs.Submit(pb.SubmitRequest(spec=job)).job
                    for message in jobs.Watch(pb.WatchRequest(id=one.id)):
                        pass
        except grpc.RpcError:
            pass  # the daemon was stopped

threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """The shape of the jobs of one uid."""

    name: str
    positions: int
    ms: int
    threads: int = 0


KINDS = (
    Kind("many small jobs", 2, 5),
    Kind("few large jobs", 20_000, 1),
    Kind("long positions", 40, 40),
    Kind("one thread each", 200, 2, 1),
    Kind("middling", 100, 3),
)


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one uid.

    Args:
        waited: the part of the time during which a job of the uid was queued.
    """

    uid: int
    kind: Kind
    lead_s: float
    helper_s: float
    jobs: int
    waited: float = 1.0

    @property
    def cpu_s(self) -> float:
        return self.lead_s + self.helper_s


class Account:
    """CPU seconds by uid, summed over the jobs as an admin sees them."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self._of: dict[str, pb.Job] = {}

    def look(self) -> None:
        """Look at all jobs, often enough that the daemon forgets none in between."""
        token = ""
        while True:
            page = self._stubs.jobs.List(pb.ListRequest(page_size=1000, page_token=token))
            news = False
            for job in page.jobs:
                known = self._of.get(job.id)
                news = news or known is None or known.cpu != job.cpu or not job.HasField("end_time")
                self._of[job.id] = job
            token = page.next_page_token
            if not token or not news:
                return

    def shares(self) -> list[Share]:
        """The share of each uid so far."""
        return [self._share(FIRST_UID + i, kind) for i, kind in enumerate(KINDS)]

    def _share(self, uid: int, kind: Kind) -> Share:
        mine = self._jobs_of(uid)
        lead_s, helper_s = (
            sum(job.cpu.lead_seconds for job in mine),
            sum(job.cpu.helper_seconds for job in mine),
        )
        return Share(uid, kind, lead_s, helper_s, len(mine))

    def waited(self, uid: int, since_s: float, until_s: float) -> float:
        """The part of an interval of wall-clock time in which a job of this uid was queued."""
        queued = [
            (_seconds(job.create_time), _seconds(job.start_time) if job.HasField("start_time") else until_s)
            for job in self._jobs_of(uid)
        ]
        return covered(queued, since_s, until_s)

    def since(self, before: list[Share], since_s: float) -> list[Share]:
        """The shares of each uid since a moment of wall-clock time at which it had `before`."""
        until_s = time.time()
        return [
            replace(
                now,
                lead_s=now.lead_s - then.lead_s,
                helper_s=now.helper_s - then.helper_s,
                waited=self.waited(now.uid, since_s, until_s),
            )
            for now, then in zip(self.shares(), before, strict=True)
        ]

    def _jobs_of(self, uid: int) -> list[pb.Job]:
        return [job for job in self._of.values() if job.owner.uid == uid]


def _seconds(time_: Timestamp) -> float:
    return time_.ToNanoseconds() / 1e9


def covered(intervals: Iterable[tuple[float, float]], since_s: float, until_s: float) -> float:
    """The part of [since_s, until_s) that lies in at least one of the intervals."""
    total_s, reached_s = 0.0, since_s
    for begin_s, end_s in sorted(intervals):
        begin_s, end_s = max(begin_s, reached_s), min(end_s, until_s)
        if end_s > begin_s:
            total_s, reached_s = total_s + end_s - begin_s, end_s
    return total_s / (until_s - since_s)


@contextmanager
def a_daemon() -> Iterator[Daemon]:
    """A daemon that every user may use."""
    with reachable_directory() as place:
        config = write_config(
            place / "c", sockets={"mode": "0666"}, workers={"user": "nobody"}, jobs={"kept": 20_000}
        )
        with running(place / "run", "--config", config) as daemon:
            yield daemon


def measure(
    run_as: OtherUsers,
    daemon: Daemon,
    clients: int,
    cpu_s: float,
    settled: Callable[[list[Share]], bool] = lambda _: True,
) -> list[Share]:
    """Let `clients` of each uid work at once, until the machine has given the jobs enough CPU time.

    Other load on the machine makes that slower, but does not change the shares.

    Args:
        cpu_s: CPU seconds that all workers together have to get.
        settled: whether the shares can be judged; else they are measured up to three times as long. Where
            a machine is busy, a uid has all of it for a while, and then another one.
    Returns:
        The share of each uid meanwhile.
    """
    with ExitStack() as stack, connected(daemon.socket) as stubs:
        for i, kind in enumerate(KINDS):
            words = (clients, kind.positions, kind.ms, kind.threads)
            command: list[str | Path] = [
                run_as.interpreter,
                "-c",
                CLIENT,
                str(daemon.place),
                *map(str, words),
            ]
            client = run_as.start(FIRST_UID + i, command)
            stack.callback(_end, client)
        account = Account(stubs)

        def all_are_there() -> bool:
            account.look()
            return all(share.cpu_s for share in account.shares())

        until(all_are_there, "work of every uid")
        since_s, before = time.time(), account.shares()
        while True:
            time.sleep(0.5)
            account.look()
            shares = account.since(before, since_s)
            had_s = sum(share.cpu_s for share in shares)
            if had_s >= 3 * cpu_s or (had_s >= cpu_s and settled(shares)):
                return shares


def _end(client: subprocess.Popen[str]) -> None:
    client.kill()
    client.wait()


def is_fair(shares: list[Share], tolerance: float) -> bool:
    """Whether enough uids can be compared, and none is further from an equal share."""
    return sum(share.waited >= WAITED for share in shares) > 1 and worst(shares) <= tolerance


WAITED = 0.95
"""A uid whose jobs were queued for this part of the time counts as always wanting more."""


def worst(shares: list[Share]) -> float:
    """The largest deviation of a uid from an equal share, as a fraction of it.

    A uid whose clients get too little of a busy machine to keep jobs in the queue does not ask for an
    equal share: it may have less, and not more.

    Source: max-min fairness
    """
    wanting = [share.cpu_s for share in shares if share.waited >= WAITED]
    assert len(wanting) > 1, f"too few uids kept jobs in the queue to compare them\n{table(shares)}"
    equal_s = sum(wanting) / len(wanting)
    others = [share.cpu_s for share in shares if share.waited < WAITED]
    return max(
        [abs(cpu_s / equal_s - 1) for cpu_s in wanting] + [cpu_s / equal_s - 1 for cpu_s in others],
    )


def table(shares: list[Share]) -> str:
    """For people."""
    equal_s = sum(share.cpu_s for share in shares) / len(shares)
    head = f"{'uid':>6}  {'jobs':<16} {'count':>6} {'lead s':>7} {'helper s':>8} {'CPU s':>7}"
    lines = [f"{head} {'of equal':>8} {'queued':>7}"]
    for one in shares:
        lines.append(
            f"{one.uid:>6}  {one.kind.name:<16} {one.jobs:>6} {one.lead_s:>7.2f} {one.helper_s:>8.2f}"
            f" {one.cpu_s:>7.2f} {100 * one.cpu_s / equal_s:>7.1f}% {100 * one.waited:>6.1f}%"
        )
    return "\n".join(lines)
