"""NUMA: nodes of pages, and of the workers that use them."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from typing import Any

from .kit import always, check, client, cpu_s, detached, require, status, until, workers

MIB = 1 << 20
SIZE = 32 * MIB


def pages_by_node(memory: Any) -> dict[int, int]:
    """Bytes of a memory on each node, as the kernel reports to its owner."""
    page = os.sysconf("SC_PAGE_SIZE")
    with mmap.mmap(memory.fileno(), SIZE) as view:
        # Read without touching: the pages are in memory already.
        sum(view[at] for at in range(0, SIZE, page))
        maps = Path("/proc/self/numa_maps").read_text().splitlines()
        line = next(text for text in maps if "memfd:ktask" in text)
    return {int(nid): int(count) * page for nid, count in re.findall(r"\bN(\d+)=(\d+)", line)}


def _placed(function: str, ranges: list[tuple[int, int, int]]) -> dict[int, int]:
    import ktask

    with client() as one, ktask.memory(SIZE) as memory:
        # Zeros over holes would write nothing.
        arg = {"value": 7} if function == "mem.fill" else {}
        one.run(function, arg=arg, data=memory, ranges=ranges)
        return pages_by_node(memory)


@check
def pages_when_a_range_names_a_node_then_they_are_there() -> str:
    """Run mem.populate and mem.fill on node 0, on node 1, and half on each."""
    half = SIZE // 2
    wanted = {
        "node 0": ([(0, SIZE, 0)], {0: SIZE}),
        "node 1": ([(0, SIZE, 1)], {1: SIZE}),
        "50:50": ([(0, half, 0), (half, half, 1)], {0: half, 1: half}),
    }
    for function in ("mem.populate", "mem.fill"):
        for name, (ranges, right) in wanted.items():
            until("free helpers", lambda: not any(worker.get("jobId") for worker in workers()))
            found = _placed(function, ranges)
            require(found == right, f"{function} on {name}: got {found}, wanted {right}")
    return f"{SIZE // MIB} MiB each way"


@check
def workers_when_looked_at_then_bound_to_their_node() -> str:
    """CPUs and memory policy, as the kernel reports them."""
    cpus = {0: {0, 1}, 1: {2, 3}}
    for worker in workers():
        pid, nid = worker["pid"], worker["nid"]
        affinity = os.sched_getaffinity(pid)
        require(len(affinity) == 1 and affinity <= cpus[nid], f"helper {pid} of node {nid}: CPUs {affinity}")
        maps = Path(f"/proc/{pid}/numa_maps").read_text()
        policies = set(re.findall(r"^\S+ (\S+)", maps, re.MULTILINE))
        require(any(text.endswith(f":{nid}") for text in policies), f"helper {pid} of node {nid}: {policies}")
    return f"{len(workers())} helpers"


def _used(before: dict[int, float]) -> dict[int, float]:
    """CPU seconds by node since `before`."""
    used = {0: 0.0, 1: 0.0}
    for worker in workers():
        used[worker["nid"]] += cpu_s(worker["pid"]) - before.get(worker["pid"], 0.0)
    return used


def _clocks() -> dict[int, float]:
    return {worker["pid"]: cpu_s(worker["pid"]) for worker in workers()}


@check
def range_of_a_node_when_its_workers_are_free_then_only_they_run_it() -> str:
    """Workers of the other node help if those of the job's node are busy."""
    with always(), detached(20.0, nid=1, threads=2):
        until("both helpers of node 1", lambda: _busy(1) == 2)
        before = _clocks()
        until("some work", lambda: _used(before)[1] > 2.0)
        alone = _used(before)
    require(alone[0] < 0.05 * alone[1], f"CPU seconds by node: {alone}")
    with always(), detached(20.0, nid=1):
        until("helpers of node 0", lambda: _busy(0) > 0)
        before = _clocks()
        until("some work of node 0", lambda: _used(before)[0] > 1.0)
    return f"node 1 {alone[1]:.1f} s, node 0 {alone[0]:.1f} s; then node 0 helped"


def _busy(nid: int) -> int:
    nodes = status()["allowance"].get("nodes", ())
    return next((int(node.get("busy", 0)) for node in nodes if int(node.get("nid", 0)) == nid), 0)
