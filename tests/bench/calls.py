"""The cost of a call, and of a chunk."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import ktask
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ktask.link.locate import grpc_target
from ktask.link.rpc import open_channel
from ktask.v1 import jobs_pb2, jobs_pb2_grpc

from tests.bench.measure import Figure, Goal, Spread, in_turn, ratios

ROUND_TRIP_GOAL = Goal(2.0, at_least=False)
CHUNK_GOAL = Goal(25.0, at_least=False)


def round_trips(client: ktask.Client, calls: int, rounds: int) -> Iterator[Figure]:
    """The cost of a job that does nothing, compared with a bare call through the same relay.

    Args:
        calls: number of calls in each turn, one after the other; the turn's value is their median.
    """
    with contextlib.closing(open_channel(grpc_target(client.socket))) as channel:
        bare, job, stub, empty = in_turn(
            rounds,
            lambda: median_s(calls, _bare(channel)),
            lambda: median_s(calls, lambda: client.run("selftest.noop", ranges=[(0, 1, -1)], max_threads=1)),
            lambda: median_s(calls, _run_by_stub(channel)),
            lambda: median_s(calls, lambda: client.run("selftest.noop")),
        )
    yield Figure("bare unary round trip", _us(bare), "us", about="Health/Check, same socket")
    for name, goal, values in (
        ("selftest.noop by client.run", ROUND_TRIP_GOAL, job),
        ("  by a bare stub", None, stub),
        ("  an empty job", None, empty),
    ):
        yield Figure(name, ratios(values, bare), "", goal, f"{_us(values).median:.0f} us")


def _bare(channel: grpc.Channel) -> Callable[[], object]:
    # The stubs do not know the methods of this stub.
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return lambda: stub.Check(health_pb2.HealthCheckRequest())


def _run_by_stub(channel: grpc.Channel) -> Callable[[], object]:
    run = jobs_pb2_grpc.JobsStub(channel).Run
    spec = jobs_pb2.JobSpec(function="selftest.noop", max_threads=1)
    spec.ranges.add(start=0, length=1, nid=-1)
    return lambda: run(jobs_pb2.RunRequest(spec=spec))


def median_s(calls: int, call: Callable[[], object]) -> float:
    """Median seconds of `calls` calls."""
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _us(seconds: list[float]) -> Spread:
    return Spread.of([value * 1e6 for value in seconds])


def dispatch(client: ktask.Client, chunks: int, rounds: int) -> Iterator[Figure]:
    """The cost of one chunk from its job's start to its end, by the daemon's own clock.

    Args:
        chunks: number of chunks of the job; each is a range of one position.
    """
    ranges = [(i, 1, -1) for i in range(chunks)]
    daemon = psutil.Process(client.status().pid)
    used: dict[int, list[float]] = {1: [], 2: []}

    def run(threads: int) -> float:
        before = sum(daemon.cpu_times()[:2])
        job = client.run("selftest.noop", ranges=ranges, max_threads=threads)
        used[threads].append((sum(daemon.cpu_times()[:2]) - before) / chunks)
        assert job.start_time is not None, "a job that succeeded has started"
        assert job.end_time is not None, "a job that succeeded has ended"
        assert job.progress.chunks_done == chunks, "each range was one chunk"
        return (job.end_time - job.start_time).total_seconds() / chunks

    for threads, seconds in zip((1, 2), in_turn(rounds, lambda: run(1), lambda: run(2)), strict=True):
        name = f"a chunk, {threads} worker{'s' if threads > 1 else ''}"
        about = f"of {chunks}; daemon's CPU {_us(used[threads]).median:.0f} us, with the job's intake"
        yield Figure(name, _us(seconds), "us", CHUNK_GOAL, about)
