"""What must be there for a daemon to start at all; anything else is named in its status instead."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

FILES_BASE = 48
"""Descriptors of a daemon without a worker: gRPC's, sockets, events, and some for clients."""

FILES_PER_CPU = 4
"""A socket and a pidfd of a helper, and of a lead."""


THREADS = 12
"""As many as gRPC starts before the first call; where it cannot it tries again forever."""


def why_not_start(cpus: int, top: Path = Path("/")) -> str:
    """What is missing and the next step, in words; "" if a daemon can start.

    Args:
        cpus: that it may use.
        top: what stands for "/".
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
    """Start as many threads as gRPC will, and end them."""
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
