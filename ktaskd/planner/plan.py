"""Makes a plan from a job's ranges and limits and the machine's topology."""

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
"""Returns the first record start at or after a position (ktask's iter function). Must be monotone and
idempotent; the result may lie beyond the end."""


@dataclass(frozen=True, slots=True)
class NodePart:
    """A range, and the node whose helpers process it.

    Args:
        nid: the node whose helpers are preferred; -1 = any node.
        only: never use helpers of other nodes, even if this node has none free.
    """

    start: int
    end: int
    nid: int = NUMA_NO_NODE
    only: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is cut. Workers then pull chunks; nothing is assigned in advance.

    Args:
        threads: most workers at the same time, including the lead.
        wanted: `threads` without the caller's own limits, which may change.
    """

    parts: tuple[NodePart, ...]
    threads: int
    chunk: int
    min_chunk: int
    align: int
    probe: int
    boundary: Boundary | None = None
    wanted: int = 0

    @property
    def total(self) -> int:
        """Total number of positions."""
        return sum(part.end - part.start for part in self.parts)


@dataclass(frozen=True, slots=True)
class Request:
    """The facts about a job from which its plan is made.

    Args:
        anywhere: ranges without a node may run on any node, not only on the caller's.
        caller_nid: the node on which the caller runs; -1 = not known.
        caller_cpus: number of CPUs that the caller may use; 0 = not known.
        waited: somebody waits for the job, so it has a lead.
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


def part_of(spec: RangeSpec, request: Request, topology: Topology) -> NodePart:
    """The node part of one range.

    A node without CPUs has no helpers, so helpers of all nodes may take its range: its pages are
    then not bound to the node, but the job gets done. The same holds for a caller whose node is
    not known.
    """
    if spec.nid is not None:
        wanted, only = spec.nid, False
    elif request.anywhere:
        wanted, only = NUMA_NO_NODE, False
    else:
        wanted, only = request.caller_nid, True
    node = topology.node(wanted)
    if node is None or not node.cpus:
        return NodePart(spec.start, spec.end)
    return NodePart(spec.start, spec.end, wanted, only)


def usable_helpers(parts: Sequence[NodePart], helpers: Mapping[int, int]) -> int:
    """Number of helpers that may work on any of the parts; `helpers` is by node."""
    if any(not part.only for part in parts):
        return sum(helpers.values())
    return sum(helpers.get(nid, 0) for nid in {part.nid for part in parts})


def make_plan(request: Request, topology: Topology, helpers: Mapping[int, int]) -> Plan:
    """The plan of a job.

    Empty ranges are legal and are left out. The plan of an empty job has no parts.

    Args:
        helpers: number of helpers by node.
    """
    parts = tuple(part_of(spec, request, topology) for spec in request.ranges if spec.length > 0)
    total = sum(part.end - part.start for part in parts)
    align = max(request.align, 1)
    floor = effective_min_chunk(request.min_chunk, default=request.default_min_chunk, align=align)
    wanted = thread_count(
        total,
        min_chunk=floor,
        max_threads=request.max_threads,
        helpers=usable_helpers(parts, helpers),
        lead=request.waited,
    )
    threads = clamp_to_caller(wanted, request.caller_cpus)
    chunk = chunk_size(total, threads=threads, min_chunk=floor, align=align)
    probe = min(chunk, max(floor, round_up(max(request.probe, 1), align)))
    return Plan(parts, threads, chunk, floor, align, probe, request.boundary, wanted)
