"""Many clients of several uids at once: what each uid gets of the workers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ktask.v1 import jobs_pb2 as pb

from tests.integration.rig import Daemon, Stubs, connected, running, until, write_config
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
    """What the jobs of one uid are like."""

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
    """What one uid had."""

    uid: int
    kind: Kind
    lead_s: float
    helper_s: float
    jobs: int

    @property
    def cpu_s(self) -> float:
        return self.lead_s + self.helper_s


class Account:
    """CPU seconds by uid, added up from the jobs as an admin sees them."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self._of: dict[str, tuple[int, float, float]] = {}

    def look(self) -> None:
        """Look at all jobs; often enough that none is forgotten in between."""
        token = ""
        while True:
            page = self._stubs.jobs.List(pb.ListRequest(page_size=1000, page_token=token))
            news = False
            for job in page.jobs:
                cpu = (job.owner.uid, job.cpu.lead_seconds, job.cpu.helper_seconds)
                ended = job.HasField("end_time")
                news = news or not ended or self._of.get(job.id) != cpu
                self._of[job.id] = cpu
            token = page.next_page_token
            if not token or not news:
                return

    def shares(self) -> list[Share]:
        """One for each uid."""
        found = []
        for i, kind in enumerate(KINDS):
            mine = [cpu for cpu in self._of.values() if cpu[0] == FIRST_UID + i]
            lead_s, helper_s = (sum(cpu[j] for cpu in mine) for j in (1, 2))
            found.append(Share(FIRST_UID + i, kind, lead_s, helper_s, len(mine)))
        return found


@contextmanager
def a_daemon() -> Iterator[Daemon]:
    """One that everybody may use."""
    with reachable_directory() as place:
        config = write_config(
            place / "c", sockets={"mode": "0666"}, workers={"user": "nobody"}, jobs={"kept": 20_000}
        )
        with running(place / "run", "--config", config) as daemon:
            yield daemon


def measure(run_as: OtherUsers, daemon: Daemon, clients: int, seconds: float) -> list[Share]:
    """Let `clients` of each uid work for so long at once; what each uid had meanwhile."""
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
            return all(share.jobs for share in account.shares())

        until(all_are_there, "jobs of every uid")
        account.look()
        before = {share.uid: share for share in account.shares()}
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            time.sleep(1.0)
            account.look()
        after = account.shares()
    return [
        Share(
            share.uid,
            share.kind,
            share.lead_s - before[share.uid].lead_s,
            share.helper_s - before[share.uid].helper_s,
            share.jobs,
        )
        for share in after
    ]


def _end(client: subprocess.Popen[str]) -> None:
    client.kill()
    client.wait()


def worst(shares: list[Share]) -> float:
    """How far from an equal share the uid is that is furthest, as a part of one."""
    equal_s = sum(share.cpu_s for share in shares) / len(shares)
    return max(abs(share.cpu_s / equal_s - 1) for share in shares)


def table(shares: list[Share]) -> str:
    """For people."""
    equal_s = sum(share.cpu_s for share in shares) / len(shares)
    lines = [
        f"{'uid':>6}  {'jobs':<16} {'count':>6} {'lead s':>7} {'helper s':>8} {'CPU s':>7} {'of equal':>8}"
    ]
    for one in shares:
        lines.append(
            f"{one.uid:>6}  {one.kind.name:<16} {one.jobs:>6} {one.lead_s:>7.2f} {one.helper_s:>8.2f}"
            f" {one.cpu_s:>7.2f} {100 * one.cpu_s / equal_s:>7.1f}%"
        )
    return "\n".join(lines)
