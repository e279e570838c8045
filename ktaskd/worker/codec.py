"""Facts of sources and settings of workers as JSON, for the frames between daemon and worker. Pure.

Both ends use these functions, so the keys are defined once.
"""

from __future__ import annotations

from typing import Any

from ktaskd.model.function import Access
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.model.topology import format_cpulist, parse_cpulist
from ktaskd.model.worker import Applied

Json = dict[str, Any]

_ACCESS = {Access.READ: "r", Access.WRITE: "w", Access.READ_WRITE: "rw"}
_ACCESS_OF = {text: access for access, text in _ACCESS.items()}


def facts_to_json(facts: SourceFacts) -> Json:
    """The value of "facts" in the body of a SOURCE frame."""
    return {
        "kind": facts.kind.value,
        "access": _ACCESS[facts.access],
        "append": facts.append,
        "seals": facts.seals,
        "size": facts.size,
        "page_size": facts.page_size,
        "device": facts.device,
        "inode": facts.inode,
        "file_system": facts.file_system,
        "own_offset": facts.own_offset,
        "direct": facts.direct,
    }


def facts_from_json(body: Json) -> SourceFacts:
    """The inverse of `facts_to_json`; raises KeyError or ValueError."""
    access = _ACCESS_OF.get(body["access"])
    if access is None:
        raise ValueError(f"access: got {body['access']!r}, wanted r, w or rw")
    return SourceFacts(
        kind=SourceKind(body["kind"]),
        access=access,
        append=bool(body["append"]),
        seals=int(body["seals"]),
        size=int(body["size"]),
        page_size=int(body["page_size"]),
        device=int(body["device"]),
        inode=int(body["inode"]),
        file_system=str(body["file_system"]),
        own_offset=bool(body["own_offset"]),
        direct=bool(body["direct"]),
    )


def applied_to_json(applied: Applied) -> Json:
    """The body of a READY frame."""
    return {
        "cpulist": format_cpulist(applied.cpus),
        "policy": applied.policy,
        "nice": applied.nice,
        "ioprio": applied.ioprio,
        "oom_score_adj": applied.oom_score_adj,
        "autogroup_nice": applied.autogroup_nice,
        "cgroup": applied.cgroup,
        "mempolicy": applied.mempolicy,
        "uid": applied.uid,
        "gives_way_by": applied.gives_way_by,
        "gave_up": list(applied.gave_up),
        "missing": list(applied.missing),
    }


def applied_from_json(body: Json) -> Applied:
    """The inverse of `applied_to_json`; raises KeyError or ValueError."""
    autogroup = body["autogroup_nice"]
    return Applied(
        cpus=parse_cpulist(str(body["cpulist"])),
        policy=str(body["policy"]),
        nice=int(body["nice"]),
        ioprio=str(body["ioprio"]),
        oom_score_adj=int(body["oom_score_adj"]),
        autogroup_nice=None if autogroup is None else int(autogroup),
        cgroup=str(body["cgroup"]),
        mempolicy=str(body["mempolicy"]),
        uid=int(body["uid"]),
        gives_way_by=str(body["gives_way_by"]),
        gave_up=tuple(str(text) for text in body["gave_up"]),
        missing=tuple(str(text) for text in body["missing"]),
    )
