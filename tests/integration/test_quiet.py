"""An idle daemon sleeps: none of our threads wakes up repeatedly."""

from __future__ import annotations

import re
import time
from pathlib import Path

from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import PATIENCE_S, Daemon, connected, running, spin, state_name, until

QUIET_S = 2.0
"""How long no thread may wake up. strace shows rarer wake-ups."""

_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s*(\d+)$", re.MULTILINE)


def wake_ups(daemon: Daemon) -> dict[str, int]:
    """How often each of our threads has gone to sleep so far, without gRPC's own."""
    counts = {}
    for process in daemon.tree():
        # Only the daemon loads gRPC, and only in other threads than its first.
        match = _SWITCHES.search(Path(f"/proc/{process.pid}/task/{process.pid}/status").read_text())
        assert match is not None
        counts[f"{process.pid} {process.name()}"] = int(match.group(1))
        tasks = [task.name for task in Path(f"/proc/{process.pid}/task").iterdir()]
        assert process.pid == daemon.process.pid or tasks == [str(process.pid)]
    return counts


def test_daemon_when_idle_then_nothing_of_it_wakes_up(tmp_path: Path) -> None:
    with running(tmp_path / "run") as daemon, connected(daemon.socket) as stubs:
        job = stubs.jobs.Run(pb.RunRequest(spec=spin(50, 1)), timeout=PATIENCE_S).job
        assert state_name(job) == "SUCCEEDED"

        def quiet() -> bool:
            """Late answers of the job may still arrive; after them the daemon is quiet."""
            before = wake_ups(daemon)
            time.sleep(QUIET_S)
            return before == wake_ups(daemon)

        until(quiet, f"quiet for {QUIET_S} s")
