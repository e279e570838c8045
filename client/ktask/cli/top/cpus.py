"""The CPUs of a node as a row of signs, one for each CPU or for several. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from ktask.status import CpuUse, Node, NodeAllowance

SIGNS = {"helpers": "H", "leads": "L", "others": "o"}
STYLES = {"helpers": "bold green", "leads": "bold cyan", "others": "yellow"}
IDLE, UNKNOWN = ".", "?"

_BUSY = 0.1
"""A CPU that is used less than this counts as idle."""


def parse_cpulist(text: str) -> list[int]:
    """The numbers of a cpulist such as "0-3,8"."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def node_line(
    node: Node, allowed: NodeAllowance | None, use: Mapping[int, CpuUse], columns: int, widest: int = 0
) -> Text:
    """One line: the node, its CPUs and their use, and the helpers that may run.

    Args:
        widest: cells of the row of CPUs, at least.
    """
    numbers = parse_cpulist(node.cpulist)
    line = Text.assemble((_head(node), "bold"))
    line.append_text(row_of([use.get(cpu) for cpu in numbers], cpus_each(node, columns)))
    line.append(" " * max(widest - cells_of(node, columns), 0))
    line.append(_tail(numbers, allowed, use))
    return line


def _head(node: Node) -> str:
    return f"node {node.nid:<2} "


def _tail(cpus: Sequence[int], allowed: NodeAllowance | None, use: Mapping[int, CpuUse]) -> str:
    known = [use[cpu] for cpu in cpus if cpu in use]
    ours = sum(one.helpers + one.leads for one in known) / max(len(known), 1)
    others = sum(one.others for one in known) / max(len(known), 1)
    parts = f"  ours {ours:>4.0%}, others {others:>4.0%}," if known else " " * 24
    busy, may = (allowed.busy, allowed.helpers) if allowed is not None else (0, 0)
    return f"{parts} helpers {busy:>3}/{may:<3}"


def row_of(cpus: Sequence[CpuUse | None], each: int = 1) -> Text:
    """A sign for every `each` CPUs: the kind of work that took most of their time."""
    row = Text()
    for begin in range(0, len(cpus), each):
        sign, style = _sign([one for one in cpus[begin : begin + each] if one is not None])
        row.append(sign, style=style)
    return row


def _sign(cpus: Sequence[CpuUse]) -> tuple[str, str]:
    if not cpus:
        return UNKNOWN, "dim"
    used = {kind: sum(getattr(one, kind) for one in cpus) for kind in SIGNS}
    most = max(used, key=used.__getitem__)
    if sum(used.values()) < _BUSY * len(cpus):
        return IDLE, "dim"
    return SIGNS[most], STYLES[most]


def legend(cpus_each: int) -> Text:
    """The meaning of the signs."""
    parts = list(_legend())
    if cpus_each > 1:
        parts.append((f"  each sign: up to {cpus_each} CPUs, most of their time", "dim"))
    return Text.assemble(*parts)


def _legend() -> Iterator[tuple[str, str]]:
    yield "        ", ""
    for kind, words in (("helpers", "our helper"), ("leads", "our lead"), ("others", "somebody else")):
        yield SIGNS[kind], STYLES[kind]
        yield f" {words}  ", "dim"
    yield f"{IDLE} idle", "dim"


def cpus_each(node: Node, columns: int) -> int:
    """How many CPUs share a sign in a line of this width."""
    room = max(columns - len(_head(node)) - len(_tail((), None, {})), 4)
    return max(-(-len(parse_cpulist(node.cpulist)) // room), 1)


def cells_of(node: Node, columns: int) -> int:
    """How many signs a node has in a line of this width."""
    return -(-len(parse_cpulist(node.cpulist)) // cpus_each(node, columns))
