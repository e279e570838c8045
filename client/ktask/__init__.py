"""Client library of ktaskd: parallel work on CPUs that nobody else wants.

    import ktask

    with ktask.connect() as client, ktask.memory(1 << 30) as m:
        client.run("mem.fill", arg={"value": 7}, data=m)
        print(client.run("file.crc32", data=m).result)

Importing this loads nothing; a name is loaded when it is first used, so that
`ktask.v1`, the contract, can be had without the client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ktask.client import Client, connect
    from ktask.errors import DaemonNotFound, DaemonNotTrusted, JobFailed, KtaskError, SystemDaemonUnused
    from ktask.own.bursts import WorkerLost
    from ktask.own.executor import Executor
    from ktask.results import (
        Allowance,
        Argument,
        CpuUsage,
        Drained,
        Function,
        ItemResult,
        Job,
        JobError,
        JobSpec,
        JobState,
        JobWarning,
        Node,
        NodeAllowance,
        Owner,
        Plan,
        Pool,
        Progress,
        Range,
        Reading,
        Reason,
        Reloaded,
        SourceName,
        SourceRole,
        Span,
        Status,
        Update,
        Worker,
    )
    from ktask.source import File, Handle, Memory, Source, file, memory

__all__ = [
    "Allowance",
    "Argument",
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
    "Executor": "ktask.own.executor",
    "WorkerLost": "ktask.own.bursts",
    **dict.fromkeys(
        ("DaemonNotFound", "DaemonNotTrusted", "JobFailed", "KtaskError", "SystemDaemonUnused"),
        "ktask.errors",
    ),
    **dict.fromkeys(("File", "Handle", "Memory", "Source", "file", "memory"), "ktask.source"),
}
"""Home of the public names that are not in `ktask.results`."""


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
