"""Client library of ktaskd: parallel work on CPUs that nobody else wants.

    import ktask

    with ktask.connect() as client, ktask.memory(1 << 30) as m:
        client.run("mem.fill", arg={"value": 7}, data=m)
        print(client.run("file.crc32", data=m).result)

Importing this package loads no module; each name is loaded at its first use. So
`ktask.v1`, the contract, can be imported without the client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ktask.client import Client, connect
    from ktask.declarations import Argument, Function, SourceRole
    from ktask.errors import DaemonNotFound, DaemonNotTrusted, JobFailed, KtaskError, SystemDaemonUnused
    from ktask.own.executor import Executor
    from ktask.own.futures import WorkerLost
    from ktask.results import (
        Cause,
        CpuUsage,
        ItemResult,
        Job,
        JobError,
        JobSpec,
        JobState,
        JobWarning,
        Moment,
        Owner,
        Plan,
        Progress,
        Range,
        Reason,
        SourceName,
        Span,
        Story,
        Update,
    )
    from ktask.source import File, Handle, Memory, Source, file, memory
    from ktask.status import (
        Allowance,
        Drained,
        Node,
        NodeAllowance,
        Pool,
        Reading,
        Reloaded,
        Status,
        Worker,
    )

__all__ = [
    "Allowance",
    "Argument",
    "Cause",
    "Client",
    "CpuUsage",
    "DaemonNotFound",
    "DaemonNotTrusted",
    "Drained",
    "Executor",
    "File",
    "Function",
    "Handle",
    "ItemResult",
    "Job",
    "JobError",
    "JobFailed",
    "JobSpec",
    "JobState",
    "JobWarning",
    "KtaskError",
    "Memory",
    "Moment",
    "Node",
    "NodeAllowance",
    "Owner",
    "Plan",
    "Pool",
    "Progress",
    "Range",
    "Reading",
    "Reason",
    "Reloaded",
    "Source",
    "SourceName",
    "SourceRole",
    "Span",
    "Status",
    "Story",
    "SystemDaemonUnused",
    "Update",
    "Worker",
    "WorkerLost",
    "connect",
    "file",
    "memory",
]

_ELSEWHERE = {
    **dict.fromkeys(("Client", "connect"), "ktask.client"),
    **dict.fromkeys(("Argument", "Function", "SourceRole"), "ktask.declarations"),
    "Executor": "ktask.own.executor",
    "WorkerLost": "ktask.own.futures",
    **dict.fromkeys(
        ("DaemonNotFound", "DaemonNotTrusted", "JobFailed", "KtaskError", "SystemDaemonUnused"),
        "ktask.errors",
    ),
    **dict.fromkeys(("File", "Handle", "Memory", "Source", "file", "memory"), "ktask.source"),
    **dict.fromkeys(
        ("Allowance", "Drained", "Node", "NodeAllowance", "Pool", "Reading", "Reloaded", "Status", "Worker"),
        "ktask.status",
    ),
}
"""Modules of the public names that are not in `ktask.results`."""


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_ELSEWHERE.get(name, "ktask.results")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
