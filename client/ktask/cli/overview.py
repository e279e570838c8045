"""The status of a daemon on one screen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

from ktask.cli.escaping import printable
from ktask.cli.text import LEVELS, format_bytes, format_mode, format_reason, format_time

if TYPE_CHECKING:
    from ktask.status import Pool, Status

COLUMNS = 80

_NOTHING = ("no ", "none", "not measured")
"""Begins the value of a reading that says nothing."""

_NODES, _MISSING = 8, 4
"""Most nodes and most missing things that are printed one by one."""


def describe_overview(status: Status) -> str:
    """The facts that most people want to know, in at most 24 lines of 80 columns on a usual machine."""
    lines = [
        *_head(status),
        *_pools(status),
        *_ways(status),
        *_counts(status),
        *_readings(status),
        *_missing(status),
    ]
    return "\n".join(printable(line) for line in lines)


def _head(status: Status) -> Iterator[str]:
    yield f"ktaskd {status.version}, pid {status.pid}, since {format_time(status.start_time)}"
    yield from _wrapped(f"directory {status.runtime_dir}")
    level = LEVELS.get(status.allowance.level, status.allowance.level.lower())
    share = status.allowance.share
    part = f", {share * 100:g} % of the time" if share < 1 else ""
    draining = "; draining: accepts no new jobs" if status.draining else ""
    yield f"mode: {format_mode(status)}{draining}"
    yield f"allowance: {level}{part}"
    for reason in status.allowance.reasons:
        yield from _wrapped(f"because: {format_reason(reason)}")


def _pools(status: Status) -> Iterator[str]:
    allowed = {one.nid: one.helpers for one in status.allowance.nodes}
    pools = {pool.nid: pool for pool in status.pools if pool.worker_class == "HELPER"}
    for node in status.nodes[:_NODES]:
        what = f"node {node.nid}: CPUs {node.cpulist or 'none'}, {format_bytes(node.memory_bytes)}"
        workers = _states(pools[node.nid]) if node.nid in pools else "no helpers"
        yield from _wrapped(f"{what}; {workers}, {allowed.get(node.nid, 0)} may run")
    if len(status.nodes) > _NODES:
        yield f"{len(status.nodes) - _NODES} more nodes"
    leads = [pool for pool in status.pools if pool.worker_class == "LEAD"]
    for pool in leads:
        most = f"{status.allowance.leads} may run, {status.allowance.leads_per_uid} for one user"
        yield from _wrapped(f"{pool.name}: {_states(pool)}, {most}")


def _ways(status: Status) -> Iterator[str]:
    """How helpers give way to other programs, and how a starved one is raised."""
    helpers = [worker for pool in status.pools if pool.worker_class == "HELPER" for worker in pool.workers]
    ways = sorted(
        {
            worker.gives_way_by or "nothing"
            for worker in helpers
            if worker.pid > 0 and worker.state != "STARTING"
        }
    )
    parts = [f"helpers give way by {', '.join(ways)}"] if ways else []
    parts += [f"a starved one is raised by {', '.join(status.raising)}"] if status.raising else []
    if parts:
        yield from _wrapped("; ".join(parts))


def _states(pool: Pool) -> str:
    """Such as "2 helpers (1 busy, 1 idle)"."""
    kind = pool.worker_class.lower()
    count = len(pool.workers)
    states = Counter(worker.state.lower() for worker in pool.workers)
    inside = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    raised = sum(worker.raised for worker in pool.workers)
    inside += f", {raised} raised" if raised else ""
    return f"{count} {kind}{'' if count == 1 else 's'}{f' ({inside})' if inside else ''}"


def _counts(status: Status) -> Iterator[str]:
    """Jobs and clients."""
    names = {
        "jobs_unended": "unended jobs",
        "jobs_kept": "ended jobs kept",
        "connections": "connections",
        "handles": "handles",
    }
    parts = [f"{words}: {status.counters[name]}" for name, words in names.items() if name in status.counters]
    if parts:
        yield from _wrapped(", ".join(parts))


def _readings(status: Status) -> Iterator[str]:
    """The readings that say something, without their sources."""
    parts = [
        f"{one.name}: {one.value}" for one in status.readings if not one.value.lower().startswith(_NOTHING)
    ]
    if parts:
        yield from _wrapped("; ".join(parts))


def _missing(status: Status) -> Iterator[str]:
    workers = [text for pool in status.pools for worker in pool.workers for text in worker.missing]
    missing = [*status.missing, *dict.fromkeys(workers)]
    for text in missing[:_MISSING]:
        yield from _wrapped(f"missing: {text}")
    more = f"{len(missing) - _MISSING} more missing; " if len(missing) > _MISSING else ""
    yield f"{more}`ktask status -v` prints all workers, limits and counters"


def _wrapped(text: str) -> list[str]:
    return wrap(text, COLUMNS, subsequent_indent="  ", break_on_hyphens=False)
