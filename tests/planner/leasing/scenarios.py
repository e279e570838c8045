"""The simulated workers and jobs, and the numbers that come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from tests.planner.leasing.books import MIB, Job, Worker
from tests.planner.leasing.rules import Rule
from tests.planner.leasing.speed import RATE, Speed
from tests.planner.leasing.world import World

GIB = 1 << 30


@dataclass(frozen=True)
class Scenario:
    """Workers and jobs.

    Args:
        sizes: of each job: its user and its positions. All arrive at 0.
        factors: of the workers' speeds, in turn.
    """

    name: str
    workers: int
    sizes: Callable[[Random], Sequence[tuple[int, int]]]
    nodes: int = 1
    factors: tuple[float, ...] = (1.0,)
    changes: bool = False
    starves: bool = False
    threads: int = 256
    waited: bool = False


@dataclass(frozen=True)
class Numbers:
    """The numbers of one rule.

    Args:
        daemon_s: CPU time of the daemon.
        tail_s: how long a worker has nothing to do before the end, on average.
        over_ideal: time that all takes over the time if no worker were ever idle.
        unfair: the worst deviation of a user's CPU time from the mean, when the first user is served.
    """

    messages: int
    steals: int
    daemon_s: float
    tail_s: float
    over_ideal: float
    unfair: float


def one(size: int) -> Callable[[Random], Sequence[tuple[int, int]]]:
    """A single job."""
    return lambda _: [(0, size)]


def many(count: int, users: int, low: int, high: int) -> Callable[[Random], Sequence[tuple[int, int]]]:
    """Jobs of users in turn, small ones and large ones."""

    def sizes(random: Random) -> Sequence[tuple[int, int]]:
        return [(i % users, int(low * (high / low) ** random.random())) for i in range(count)]

    return sizes


def small_beside_large(_: Random) -> Sequence[tuple[int, int]]:
    """One user with one large job, and one with many small ones."""
    return [(0, 24 * GIB), *[(1, 64 * MIB)] * 200]


SCENARIOS = (
    Scenario("2 equal workers, 1 job of 64 MiB", 2, one(64 * MIB), waited=True),
    Scenario("2 equal workers, 1 job of 1 GiB", 2, one(GIB), waited=True),
    Scenario("2 workers, speeds 9 : 1, 1 job of 1 GiB", 2, one(GIB), factors=(0.9, 0.1), waited=True),
    Scenario("2 workers, speeds change, helper starves, 4 GiB", 2, one(4 * GIB), changes=True, starves=True,
             waited=True),
    Scenario("16 workers, speeds change, 16 GiB", 16, one(16 * GIB), changes=True, waited=True),
    Scenario("64 workers on 4 nodes, helpers starve, 64 GiB", 64, one(64 * GIB), nodes=4, changes=True,
             starves=True, waited=True),
    Scenario("256 workers on 8 nodes, equal, 256 GiB", 256, one(256 * GIB), nodes=8),
    Scenario("256 workers on 8 nodes, helpers starve, 256 GiB", 256, one(256 * GIB), nodes=8, changes=True,
             starves=True),
    Scenario("256 workers on 8 nodes, speeds change, 2 GiB", 256, one(2 * GIB), nodes=8, changes=True),
    Scenario("4 workers, 2 users: 24 GiB beside 200 of 64 MiB", 4, small_beside_large, threads=4),
    Scenario("16 workers, 4 users, 100 jobs of 16 MiB to 4 GiB", 16, many(100, 4, 16 * MIB, 4 * GIB),
             threads=4, changes=True),
    Scenario("64 workers on 8 nodes, 8 users, 1000 jobs of 1 MiB to 1 GiB", 64, many(1000, 8, MIB, GIB),
             nodes=8, threads=4, changes=True, starves=True),
    Scenario("4 workers, 4 users, 10000 jobs of 1 MiB", 4, many(10_000, 4, MIB, MIB), threads=4),
)  # fmt: skip


def _workers(scenario: Scenario, random: Random) -> list[Worker]:
    """The first one is the lead, which never starves."""
    return [
        Worker(
            i,
            i % scenario.nodes,
            Speed(
                Random(random.random()),
                scenario.factors[i % len(scenario.factors)],
                changes=scenario.changes,
                starves=scenario.starves and i > 0,
            ),
        )
        for i in range(scenario.workers)
    ]


def _job(scenario: Scenario, user: int, size: int) -> Job:
    """A job in equal parts for each node."""
    nodes = scenario.nodes if size >= GIB else 1
    edges = [i * size // nodes for i in range(nodes + 1)]
    parts = [[edges[i], edges[i + 1], i if nodes > 1 else -1] for i in range(nodes)]
    return Job(user, size, min(scenario.threads, scenario.workers), scenario.waited, parts)


def _ideal_s(workers: Sequence[Worker], total: int) -> float:
    """The time in which all workers together could do it."""
    low, high = 0.0, 1.0
    while sum(worker.speed.done(high) for worker in workers) < total:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        enough = sum(worker.speed.done(middle) for worker in workers) >= total
        low, high = (low, middle) if enough else (middle, high)
    return high


def _unfair(used: dict[int, float]) -> float:
    mean = sum(used.values()) / len(used)
    return max(abs(cpu_s - mean) for cpu_s in used.values()) / mean


@cache
def simulate(scenario: Scenario, rule: Callable[[], Rule], seed: int = 1) -> Numbers:
    """Run a scenario under a rule; the speeds and the jobs are the same for each rule."""
    random = Random(f"{seed} {scenario.name}")
    workers = _workers(scenario, random)
    jobs = [_job(scenario, user, size) for user, size in scenario.sizes(random)]
    world = World(rule(), workers, [(0.0, job) for job in jobs], random)
    world.run()
    assert all(job.done == job.total for job in jobs)
    assert abs(sum(world.used.values()) - sum(job.total for job in jobs) / RATE) < 1e-6 * len(jobs)
    tail_s = sum(world.end_s - worker.last_s for worker in workers) / len(workers)
    ideal_s = _ideal_s(workers, sum(job.total for job in jobs))
    return Numbers(
        world.messages, world.steals, world.daemon_s, tail_s, world.end_s / ideal_s, _unfair(world.fair_at)
    )
