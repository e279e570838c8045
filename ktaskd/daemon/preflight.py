"""Checks what a daemon needs to start at all. Its status names everything else that is missing."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

FILES_BASE = 48
"""Descriptors that a daemon needs without workers: gRPC's, sockets, events, and some for clients."""

FILES_PER_CPU = 4
"""A socket and a pidfd each for a helper and a lead."""

THREADS = 12
"""Threads that gRPC starts before the first call. If it cannot, it tries again forever."""


def why_not_start(cpus: int, top: Path = Path("/")) -> str:
    """Return what is missing and the next step, in words; "" if a daemon can start.

    Args:
        cpus: number of CPUs that the daemon may use.
        top: the directory that stands for "/".
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _lacking_files(top) or _lacking_descriptors(cpus, most) or _lacking_threads()


def _lacking_files(top: Path) -> str:
    if not os.path.exists(top / "proc/self/stat"):
        return f"{top / 'proc'}: no process file system is there; mount it (mount -t proc proc /proc)"
    missing = [f"/dev/{name}" for name in ("null", "urandom") if not os.path.exists(top / "dev" / name)]
    return f"{', '.join(missing)}: missing; mount /dev or make these devices" if missing else ""


def _lacking_descriptors(cpus: int, most: int) -> str:
    needed = FILES_BASE + FILES_PER_CPU * cpus
    if most == resource.RLIM_INFINITY or most >= needed:
        return ""
    return (
        f"open files: the limit is {most} (RLIMIT_NOFILE), and a daemon on {cpus} CPUs needs at least "
        f"{needed}; raise it (ulimit -n 4096, or LimitNOFILE= in the unit)"
    )


def _lacking_threads() -> str:
    """Start as many threads as gRPC will, and end them; return the fault, or ""."""
    go, threads = threading.Event(), [threading.Thread(target=lambda: go.wait()) for _ in range(THREADS)]
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
    except RuntimeError:
        limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        return (
            f"threads: only {len(started)} of {THREADS} can be started (RLIMIT_NPROC is {limit}); raise that "
            "limit or TasksMax= of the unit, or end other processes of this user"
        )
    finally:
        go.set()
        for thread in started:
            thread.join()
    return ""
