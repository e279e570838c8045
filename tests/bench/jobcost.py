"""The cost of a job, beside a bare gRPC call and beside the work itself.

    python -m tests.bench.jobcost [--rounds N] [--calls N] [--jobs N] [--size MIB]

All of it is measured in one run, in turn. *bare* is a health check of a `grpc.aio` server
on a unix socket, in a process of its own, without anything of ours in between. The last
figures are CPU time: of the client, the daemon and the workers together, until all are
quiet again, over the CPU time that the work takes in one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import ktask
import psutil
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from isal.isal_zlib import crc32
from ktask.link.locate import grpc_target
from ktask.link.rpc import open_channel

from ktaskd.host.scheduling.cputime import read_cpu_seconds
from tests.bench.calls import median_s
from tests.bench.machine import describe_machine, load
from tests.bench.measure import Figure, Goal, Spread, in_turn, ratios, table
from tools.private import private_daemon, temporary_directory

CALL_GOAL, MANY_GOAL, CPU_GOAL = (Goal(bound, at_least=False) for bound in (2.0, 2.5, 1.1))

PROGRAMS = 4
"""Programs that call at the same time."""

QUIET_S, LOOK_S = 0.2, 0.05
"""Processes that use no CPU for this long are quiet; how often that is looked at."""

SMALL = 4096

Call = Callable[[], object]


# -- the bare server, and the programs that call: this module again -----------------------


async def _serve(path: str) -> None:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


def _call_many(target: str, count: int) -> None:
    """Connect, print "ready", and make all calls after the next line of input: jobs, or bare calls."""
    with contextlib.ExitStack() as end:
        if target.startswith("unix:"):
            call = _check(end.enter_context(contextlib.closing(open_channel(target))))
        else:
            call = partial(end.enter_context(ktask.connect(target)).run, "selftest.noop")
        call()
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(count):
            call()
        print("done", flush=True)
        sys.stdin.readline()


def _check(channel: grpc.Channel) -> Call:
    # The stubs do not know the methods of this stub.
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return lambda: stub.Check(health_pb2.HealthCheckRequest())


@contextlib.contextmanager
def _program(*words: str) -> Iterator[subprocess.Popen[str]]:
    """This module as another process, which has printed "ready"."""
    command = [sys.executable, "-m", "tests.bench.jobcost", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            _hear(process, "ready")
            yield process
        finally:
            process.terminate()


def _hear(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != f"{word}\n":
        raise RuntimeError(f"{process.args!r}: ended before it was {word}")


# -- time ---------------------------------------------------------------------------------


def one_at_a_time(
    client: ktask.Client, bare: grpc.Channel, place: Path, calls: int, rounds: int
) -> Iterator[Figure]:
    """Calls one after the other: the median of each turn, over that of bare calls."""
    path = place / "small"
    path.write_bytes(bytes(SMALL))
    crc = partial(client.run, "file.crc32")
    with (
        contextlib.closing(open_channel(grpc_target(client.socket))) as channel,
        ktask.file(path) as held,
        ktask.memory(SMALL) as region,
        path.open("rb") as opened,
    ):
        ways: dict[str, Call] = {
            "bare gRPC call": _check(bare),
            "the same through the door": _check(channel),
            "an empty job": partial(client.run, "selftest.noop"),
            "a job of one position": partial(client.run, "selftest.noop", ranges=[(0, 1, -1)]),
            "crc32 of 4 KiB, a file held by the client": partial(crc, data=held),
            "  of a region": partial(crc, data=region),
            "  of an object with a fileno()": partial(crc, data=opened),
            "  by path": partial(crc, data=str(path)),
        }
        seconds = in_turn(rounds, *(partial(median_s, calls, way) for way in ways.values()))
    for name, values in zip(ways, seconds, strict=True):
        goal = CALL_GOAL if name == "an empty job" else None
        yield Figure(name, ratios(values, seconds[0]), "", goal, f"{Spread.of(values).median * 1e6:.0f} us")


def at_once(client: ktask.Client, bare: str, jobs: int, rounds: int) -> Figure:
    """Empty jobs from several programs at the same time, over bare calls from as many."""
    runtime = str(Path(client.socket).parent)
    count = str(jobs // PROGRAMS)
    theirs, ours = in_turn(rounds, partial(_burst, bare, count), partial(_burst, runtime, count))
    rates = [PROGRAMS * int(count) / Spread.of(seconds).median for seconds in (ours, theirs)]
    about = "{:.0f} jobs, {:.0f} bare calls a second".format(*rates)
    return Figure(f"empty jobs, {PROGRAMS} programs at once", ratios(ours, theirs), "", MANY_GOAL, about)


def _burst(target: str, count: str) -> float:
    """Seconds until all programs have made their calls."""
    with contextlib.ExitStack() as end:
        programs = [end.enter_context(_program("--call", target, count)) for _ in range(PROGRAMS)]
        begin = time.perf_counter()
        for program in programs:
            assert program.stdin is not None
            program.stdin.write("go\n")
            program.stdin.flush()
        for program in programs:
            _hear(program, "done")
        return time.perf_counter() - begin


# -- CPU time -------------------------------------------------------------------------------


def cpu_used(client: ktask.Client, size: int, rounds: int) -> Iterator[Figure]:
    """CPU time of crc32 of a region by two workers, over that of one direct thread.

    The region was used before: "again" hands the same one over, "new" makes and fills another one.
    """
    piece = bytes(range(256)) * 4096
    with ktask.memory(size) as kept:
        _fill(kept, piece)
        direct, again, new = in_turn(
            rounds,
            partial(_direct, kept),
            partial(_job_cpu, client, kept),
            partial(_new_region_cpu, client, size, piece),
        )
    for name, goal, values in (("again", CPU_GOAL, again), ("new", None, new)):
        about = f"{Spread.of(values).median * 1e3:.1f} ms, direct {Spread.of(direct).median * 1e3:.1f}"
        yield Figure(
            f"CPU of crc32, {size >> 20} MiB region, {name}", ratios(values, direct), "", goal, about
        )


def _fill(region: ktask.Memory, piece: bytes) -> None:
    for start in range(0, len(region), len(piece)):
        region[start : start + len(piece)] = piece[: len(region) - start]


def _direct(region: ktask.Memory) -> float:
    begin = time.thread_time()
    crc32(region)
    return time.thread_time() - begin


def _job_cpu(client: ktask.Client, region: ktask.Memory) -> float:
    """CPU seconds of all processes for one job, until nothing of ours uses the CPU."""
    processes = _processes(client)
    before = _quiet(processes)
    client.run("file.crc32", data=region, max_threads=2)
    return _quiet(processes) - before


def _new_region_cpu(client: ktask.Client, size: int, piece: bytes) -> float:
    with ktask.memory(size) as region:
        _fill(region, piece)
        return _job_cpu(client, region)


def _processes(client: ktask.Client) -> list[int]:
    daemon = psutil.Process(client.status().pid)
    return [psutil.Process().pid, daemon.pid, *(child.pid for child in daemon.children(recursive=True))]


def _quiet(processes: Sequence[int]) -> float:
    """CPU seconds of these processes once they use next to nothing any more."""
    used = sum(map(read_cpu_seconds, processes))
    quiet_s = 0.0
    while quiet_s < QUIET_S:
        time.sleep(LOOK_S)
        before, used = used, sum(map(read_cpu_seconds, processes))
        # Looking costs something as well.
        quiet_s = quiet_s + LOOK_S if used - before < LOOK_S / 20 else 0.0
    return used


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.jobcost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way (default: 7)")
    parser.add_argument("--calls", type=int, default=300, help="calls in each turn (default: 300)")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs of all programs; 0 = none")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the region; 0 = no CPU time")
    parser.add_argument("--serve", metavar="SOCKET", help=argparse.SUPPRESS)
    parser.add_argument("--call", nargs=2, metavar=("TARGET", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        asyncio.run(_serve(options.serve))
    elif options.call:
        _call_many(options.call[0], int(options.call[1]))
    else:
        _measure(options)
    return 0


def _measure(options: argparse.Namespace) -> None:
    for name, value in describe_machine().items():
        print(f"{name + ':':<8} {value}")
    with (
        temporary_directory("ktaskd-cost-") as place,
        private_daemon(place) as runtime,
        ktask.connect(runtime) as client,
        _program("--serve", str(place / "bare.sock")),
        contextlib.closing(open_channel(f"unix:{place / 'bare.sock'}")) as bare,
    ):
        figures = list(one_at_a_time(client, bare, place, options.calls, options.rounds))
        if options.jobs:
            target = f"unix:{place / 'bare.sock'}"
            figures.append(at_once(client, target, options.jobs, min(options.rounds, 5)))
        if options.size:
            figures += cpu_used(client, options.size << 20, options.rounds)
        print(f"\nover a bare call, and over the work (load {load()})\n{table(figures)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
