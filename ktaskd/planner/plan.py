"""A job's ranges, limits and the topology turned into a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ktaskd.model.job import RangeSpec
from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.model.topology import Topology
from ktaskd.planner.threads import (
    chunk_size,
    clamp_to_caller,
    effective_min_chunk,
    round_up,
    thread_count,
)

Boundary = Callable[[int], int]
"""The least record start that is not below a position (ktask's iter function).
Must be monotone and idempotent; may answer beyond the end."""


@dataclass(frozen=True, slots=True)
class Share:
    """A range and who may process it.

    Args:
        nid: the node whose helpers go first; -1 = any node's.
        only: no other node's helpers, even when this one has none free.
    """

    start: int
    end: int
    nid: int = NUMA_NO_NODE
    only: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is cut up. Workers then pull; nothing is assigned ahead.

    Args:
        threads: workers at the same time, the lead included.
        wanted: the same without the caller's own limits, which may change.
    """

    shares: tuple[Share, ...]
    threads: int
    chunk: int
    min_chunk: int
    align: int
    probe: int
    boundary: Boundary | None = None
    wanted: int = 0

    @property
    def total(self) -> int:
        """Positions in all."""
        return sum(share.end - share.start for share in self.shares)


@dataclass(frozen=True, slots=True)
class Request:
    """The facts that a plan is made from.

    Args:
        anywhere: ranges without a node go anywhere, not to the caller's node.
        caller_nid: node that the caller runs on; -1 = not known.
        caller_cpus: CPUs that the caller may use; 0 = not known.
        waited: somebody waits, so that there is a lead.
    """

    ranges: Sequence[RangeSpec]
    min_chunk: int = 0
    max_threads: int = 0
    default_min_chunk: int = 1
    align: int = 1
    probe: int = 1
    boundary: Boundary | None = None
    anywhere: bool = False
    caller_nid: int = NUMA_NO_NODE
    caller_cpus: int = 0
    waited: bool = False


def place(spec: RangeSpec, request: Request, topology: Topology) -> Share:
    """The share of one range.

    A node without CPUs has no helpers of its own, so that its range is open to
    all: pages go there by nobody's pinning, but the job gets done. The same
    holds for a caller whose node is not known.
    """
    if spec.nid is not None:
        wanted, only = spec.nid, False
    elif request.anywhere:
        wanted, only = NUMA_NO_NODE, False
    else:
        wanted, only = request.caller_nid, True
    node = topology.node(wanted)
    if node is None or not node.cpus:
        return Share(spec.start, spec.end)
    return Share(spec.start, spec.end, wanted, only)


def usable_helpers(shares: Sequence[Share], helpers: Mapping[int, int]) -> int:
    """Helpers that may work on any of the shares; `helpers` is by node."""
    if any(not share.only for share in shares):
        return sum(helpers.values())
    return sum(helpers.get(nid, 0) for nid in {share.nid for share in shares})


def make_plan(request: Request, topology: Topology, helpers: Mapping[int, int]) -> Plan:
    """The plan of a job; `helpers` is how many there are, by node.

    Empty ranges are legal and vanish. The plan of an empty job has no shares.
    """
    shares = tuple(place(spec, request, topology) for spec in request.ranges if spec.length > 0)
    total = sum(share.end - share.start for share in shares)
    align = max(request.align, 1)
    floor = effective_min_chunk(request.min_chunk, default=request.default_min_chunk, align=align)
    wanted = thread_count(
        total,
        min_chunk=floor,
        max_threads=request.max_threads,
        helpers=usable_helpers(shares, helpers),
        lead=request.waited,
    )
    threads = clamp_to_caller(wanted, request.caller_cpus)
    chunk = chunk_size(total, threads=threads, min_chunk=floor, align=align)
    probe = min(chunk, max(floor, round_up(max(request.probe, 1), align)))
    return Plan(shares, threads, chunk, floor, align, probe, request.boundary, wanted)
