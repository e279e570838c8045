"""A client in a session of its own, so that nothing of ours shares its scheduling group.

Run as a program it reads JSON, one request a line, and answers each with a line:

    {"work": NAME, "size": BYTES, "passes": N}
    {"work": "spin", "units": N, "ms": N, "apart": YES}   makes the work
    {"do": "connect", "socket": DIR}
    {"do": "alone"}                   does the work in this process
    {"do": "waited"}                  has the daemon do it and waits
    {"do": "detached", "limit": S}    submits it, waits for S seconds, cancels the remainder
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import ktask

from tests.bench.interference import works
from tests.bench.interference.beside import REPOSITORY
from tests.bench.interference.groups import Group
from tests.bench.interference.programs import Unmeasured

_POLL_S = 0.02
Json = dict[str, Any]


class Client:
    """The other end: a client process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Take over the process."""
        self.process = process

    def tell(self, **request: Any) -> None:
        """Send a request; `answer` returns its result."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Json:
        """The answer to the oldest unanswered request.

        Raises:
            Unmeasured: the request failed.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Unmeasured("the client process has ended")
        found: Json = json.loads(line)
        if "error" in found:
            raise Unmeasured(f"client: {found['error']}")
        return found

    def ask(self, **request: Any) -> Json:
        """Send a request and wait for its answer."""
        self.tell(**request)
        return self.answer()


@contextmanager
def client(socket: str, group: Group | None = None) -> Iterator[Client]:
    """A connected client process, killed at the end.

    Args:
        group: cgroup that it is put into before it connects.
    """
    words = [sys.executable, "-m", "tests.bench.interference.client"]
    with subprocess.Popen(
        words,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            if group:
                group.add(process.pid)
            made = Client(process)
            made.ask(do="connect", socket=socket)
            yield made
        finally:
            process.kill()


# -- in the client process ---------------------------------------------------------


class _Server:
    def __init__(self, end: ExitStack) -> None:
        self._end = end
        self._kept = ExitStack()
        self._client: ktask.Client | None = None
        self._work: works.Work | None = None

    def handle(self, request: Json) -> Json:
        if "work" in request:
            self._make(request)
            return {}
        if request["do"] == "connect":
            self._client = self._end.enter_context(ktask.connect(request["socket"]))
            return {}
        begin = time.perf_counter()
        found = self._do(request)
        return {"seconds": time.perf_counter() - begin, **found}

    def _make(self, request: Json) -> None:
        self._kept.close()
        self._end.callback(self._kept.close)
        name = request["work"]
        if name == "spin":
            self._work = works.spin(request["units"], request["ms"], apart=request.get("apart", False))
            return
        make = {"crc32": works.crc32, "fill": works.fill, "copy": works.copy}[name]
        self._work = make(request["size"], request["passes"], self._kept)

    def _do(self, request: Json) -> Json:
        work, client = self._work, self._client
        assert work is not None
        if request["do"] == "alone":
            work.alone()
            return {}
        assert client is not None
        if request["do"] == "waited":
            return _said(work.waited(client))
        return _detached(client, work, request["limit"])


def _said(job: ktask.Job) -> Json:
    cpu = job.cpu
    return {
        "lead": cpu.lead_seconds,
        "helpers": cpu.helper_seconds,
        "recalled": cpu.chunks_recalled,
        "raised": cpu.helpers_raised,
        "threads": job.plan.threads if job.plan else 0,
    }


def _detached(client: ktask.Client, work: works.Work, limit: float) -> Json:
    """All passes, one after the other; `ended` tells whether they were done before the limit."""
    until = time.monotonic() + limit
    for _ in range(work.passes):
        job = work.detached(client)
        while not (job := client.job(job)).state.ended:
            if time.monotonic() > until:
                client.cancel(job, wait=False)
                return {"ended": False}
            time.sleep(_POLL_S)
    return {"ended": True}


def _main() -> None:
    with ExitStack() as end:
        server = _Server(end)
        for line in sys.stdin:
            try:
                answer = server.handle(json.loads(line))
            except Exception as error:  # reported to the requester
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main()
