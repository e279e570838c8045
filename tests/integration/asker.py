"""A real client in a process of its own, which a test controls."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.cgroups import in_groups
from tests.support.users import OtherUsers

PROGRAM = """
    import json, os, sys
    import ktask

    MIB = 1 << 20
    client = ktask.connect(sys.argv[1])
    kept = {}

    def run(function, **fields):
        try:
            job = client.run(function, **fields)
        except ktask.JobFailed as failed:
            job, error = failed.job, failed.job.error
            return {"state": job.state, "reason": error.reason, "message": error.message,
                    "dirty": [[span.start, span.end] for span in error.dirty]}
        except ktask.KtaskError as error:
            return {"refused": error.reason, "message": str(error)}
        return {"state": job.state, "threads": job.plan.threads if job.plan else 0}

    def growing(name):
        # ktask.memory keeps its length.
        kept[name] = os.fdopen(os.memfd_create(name), "r+b", buffering=0)
        return kept[name]

    def memory(name, mib):
        if name not in kept:
            kept[name] = ktask.memory(mib * MIB)
        return kept[name]

    def drop(name):
        kept.pop(name).close()

    def submit(function, **fields):
        return client.submit(function, **fields).id

    print(json.dumps("up"), flush=True)
    for line in sys.stdin:
        print(json.dumps(eval(line)), flush=True)
"""


class Asker:
    """Evaluates expressions in the client's process; PROGRAM defines the functions that they may use."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self._answer() == "up"

    def __call__(self, expression: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the client ended with {self.process.wait()}"
        return json.loads(line)


@contextmanager
def asker(place: Path, *groups: Path, as_uid: tuple[OtherUsers, int] | None = None) -> Iterator[Asker]:
    """A client of the daemon at `place`, in these cgroups from its start, optionally of another user."""
    python: list[str | Path] = [sys.executable]
    env = None
    if as_uid is not None:
        run_as, uid = as_uid
        ids = ["--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
        python, env = ["setpriv", *ids, run_as.interpreter], run_as.environment(uid)
    command = in_groups([*python, "-c", textwrap.dedent(PROGRAM), place], *groups)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, cwd="/") as process:
        try:
            yield Asker(process)
        finally:
            process.kill()
