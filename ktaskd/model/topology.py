"""CPUs and NUMA nodes."""

from __future__ import annotations

from dataclasses import dataclass


def format_cpulist(cpus: frozenset[int] | set[int] | list[int]) -> str:
    """The kernel's text for a set of CPUs: {0, 1, 2, 4} is "0-2,4"."""
    out: list[str] = []
    ordered = sorted(cpus)
    i = 0
    while i < len(ordered):
        j = i
        while j + 1 < len(ordered) and ordered[j + 1] == ordered[j] + 1:
            j += 1
        out.append(str(ordered[i]) if i == j else f"{ordered[i]}-{ordered[j]}")
        i = j + 1
    return ",".join(out)


def parse_cpulist(text: str) -> frozenset[int]:
    """The set of CPUs in a cpulist; raises ValueError if `text` is not one."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


@dataclass(frozen=True, slots=True)
class Node:
    """One NUMA node, with only the CPUs that the daemon may use."""

    nid: int
    cpus: frozenset[int]
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Topology:
    """The machine's nodes, ascending; a node may have no CPUs."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> frozenset[int]:
        """All CPUs that the daemon may use."""
        return frozenset(cpu for node in self.nodes for cpu in node.cpus)

    def node(self, nid: int) -> Node | None:
        """The node of this number, or None."""
        return next((node for node in self.nodes if node.nid == nid), None)

    def nid_of(self, cpu: int) -> int:
        """The node of a CPU; -1 if no node has it."""
        return next((node.nid for node in self.nodes if cpu in node.cpus), -1)
