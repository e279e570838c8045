"""The memory of the processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ktask
import psutil

from tests.bench.measure import Figure, Spread

_MIB = 1 << 20


def sizes(client: ktask.Client, when: str) -> Iterator[Figure]:
    """The daemon, its workers, and the processes that start and vet for it.

    Args:
        when: a word for the moment; part of the names.
    """
    status = client.status()
    daemon = psutil.Process(status.pid)
    yield _figure(f"daemon, resident, {when}", [daemon.memory_info().rss])
    yield _figure(f"daemon, private, {when}", [_private(daemon)])
    workers = [worker for pool in status.pools for worker in pool.workers if worker.private_bytes]
    if workers:
        yield _figure(f"worker, private, {when}", [worker.private_bytes for worker in workers], "each of")
    known = {daemon.pid, *(worker.pid for worker in workers)}
    others = [process for process in daemon.children(recursive=True) if process.pid not in known]
    if others:
        yield _figure(f"pool host or keeper, private, {when}", map(_private, others), "each of")


def _private(process: psutil.Process) -> int:
    return int(process.memory_full_info().uss)


def _figure(name: str, counts: Iterable[int], about: str = "") -> Figure:
    values = [count / _MIB for count in counts]
    return Figure(name, Spread.of(values), "MiB", about=f"{about} {len(values)}" if about else "")
