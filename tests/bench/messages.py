"""Counts the messages between the daemon and its workers for one job, by size.

    python -m tests.bench.messages [--sizes 8,64,1024] [--repeat 5] [--threads 2]

The pools run in this process' daemon, so that each datagram can be counted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from unittest import mock

from ktaskd.jobs.job import Job
from ktaskd.model.job import JobSpec, JobState
from ktaskd.pool.link import Worker
from ktaskd.pool.outbox import Outbox
from tests.jobs.realjobs import RealJobs, real_jobs

MIB = 1 << 20


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count datagrams to workers ("to") and from them ("from")."""
    counts: Counter[str] = Counter()
    send, take = Outbox._try_send, Worker._on_frame

    def counting_send(box: Outbox, frame: bytes, fds: Iterable[int]) -> bool:
        counts["to"] += 1
        return send(box, frame, fds)

    def counting_take(worker: Worker, frame: bytes) -> None:
        counts["from"] += 1
        take(worker, frame)

    with (
        mock.patch.object(Outbox, "_try_send", counting_send),
        mock.patch.object(Worker, "_on_frame", counting_take),
    ):
        yield counts


async def of_one_job(jobs: RealJobs, mib: int, threads: int = 2) -> Counter[str]:
    """Run one checksum over memory; return what was sent until it had ended."""
    source = jobs.memory(mib * MIB)
    with counted() as counts:
        job: Job = await jobs.submit(JobSpec("file.crc32", sources={"data": source.ref}, max_threads=threads))
        await jobs.ended(job)
    assert job.state is JobState.SUCCEEDED
    await jobs.until(lambda: jobs.at_rest)
    return counts


async def measure(sizes: list[int], repeat: int, threads: int) -> None:
    """Print the medians for all sizes."""
    async with real_jobs() as jobs:
        await of_one_job(jobs, 1)
        print(f"{'MiB':>6} {'to workers':>11} {'from workers':>13}   (medians of {repeat}; most)")
        for mib in sizes:
            runs = [await of_one_job(jobs, mib, threads) for _ in range(repeat)]
            to, back = ([run[way] for run in runs] for way in ("to", "from"))
            middle = f"{statistics.median(to):11.0f} {statistics.median(back):13.0f}"
            print(f"{mib:6d} {middle}   ({max(to)}; {max(back)})", flush=True)


def main() -> None:
    """Count and print."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1,8,64,256,1024", help="MiB, with commas between")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="workers of the job")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    asyncio.run(measure(sizes, options.repeat, options.threads))


if __name__ == "__main__":
    main()
