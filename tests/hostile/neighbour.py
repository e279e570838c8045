"""A well-behaved client, which runs noops one after the other and measures how long each takes."""

from __future__ import annotations

import json
import math
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALM_CALLS = 60
PAUSE_S = 0.002
"""Between two calls, beside something: it wants to know how long they take, and not to use up a CPU."""
RATIO_MAX = 10.0
"""Generous: no test depends on how busy the machine is. `python -m tests.hostile` asks for two."""


@dataclass(slots=True)
class Beside:
    """The effect on the neighbour; filled in at the end of the block."""

    calm_ms: float = 0.0
    beside_ms: float = 0.0
    max_ms: float = 0.0
    calls: int = 0

    @property
    def ratio(self) -> float:
        return self.beside_ms / self.calm_ms


class Neighbour:
    """The neighbour's process. As a context it ends the process.

    Args:
        start: starts a text of Python with these words and options.
    """

    def __init__(self, place: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
        self.errors: list[str] = []
        """Why calls failed."""
        self._process = start(
            Path(__file__).read_text(), str(place), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Neighbour:
        self._ask("start")
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.errors += told["errors"]
        return told

    def calm(self) -> float:
        """Return the median time of noops now, ms."""
        self._ask(f"calls {CALM_CALLS}")
        return float(self._read()["median_ms"])

    def times(self, seconds: float) -> list[float]:
        """Make calls for about `seconds`, at least one; return their times, ms. A failed one took forever."""
        self._ask(f"seconds {seconds}")
        return [float(ms) for ms in self._read()["times_ms"]]

    @contextmanager
    def beside(self, what: str) -> Iterator[Beside]:
        """Keep working while the block runs; fail if a call failed or the median grew too much."""
        found = Beside(calm_ms=self.calm())
        self._ask("begin")
        yield found
        self._ask("end")
        told = self._read()
        found.beside_ms, found.max_ms, found.calls = told["median_ms"], told["max_ms"], told["calls"]
        found.calm_ms = min(found.calm_ms, self.calm())
        print(
            f"neighbour beside {what}: {found.beside_ms:.2f} ms, undisturbed {found.calm_ms:.2f} ms,"
            f" ratio {found.ratio:.1f}, {found.calls} calls, the slowest {found.max_ms:.1f} ms"
        )
        assert math.isfinite(found.max_ms), f"a call failed beside {what}: {self.errors}"
        assert found.ratio < RATIO_MAX, (what, found)


def attempt(call: Callable[[], float], refusal: type[Any], errors: list[str]) -> float:
    """Make a call; return its time, ms, or infinity and add a line to `errors` if it failed."""
    begin = time.monotonic()
    try:
        return call()
    except refusal as error:
        after_ms = (time.monotonic() - begin) * 1e3
        errors.append(f"{error.code().name} after {after_ms:.0f} ms: {error.details()}")
        return math.inf


def is_told(words: Any) -> bool:
    """Whether there is another line, or will be soon."""
    return bool(select.select([words], [], [], PAUSE_S)[0])


def main(place: str) -> None:
    """Follow the commands on standard input."""
    # Here, since the parent does not need them; and nothing of the tests, since
    # another user cannot read them.
    import grpc
    from ktask.v1 import jobs_pb2 as pb
    from ktask.v1.jobs_pb2_grpc import JobsStub

    noop = pb.RunRequest(spec=pb.JobSpec(function="selftest.noop", ranges=[pb.Range(length=1)]))
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{place}/ktaskd.sock", options=options) as channel:
        jobs = JobsStub(channel)

        def call() -> float:
            begin = time.monotonic()
            job = jobs.Run(noop, timeout=30).job
            assert job.state == pb.JOB_STATE_SUCCEEDED
            return (time.monotonic() - begin) * 1e3

        def say(times: list[float]) -> None:
            told: dict[str, Any] = {
                "median_ms": statistics.median(times),
                "max_ms": max(times),
                "calls": len(times),
            }
            told["times_ms"] = [round(ms, 3) for ms in times]
            print(json.dumps({**told, "errors": errors}), flush=True)
            errors.clear()

        def times_of(word: str, number: float) -> list[float]:
            """Make calls until the command is fulfilled."""
            if word == "calls":
                return [tried() for _ in range(int(number))]
            times, end_s = [tried()], time.monotonic() + number
            while time.monotonic() < end_s if word == "seconds" else not is_told(words):
                times.append(tried())
            return times

        def tried() -> float:
            return attempt(call, grpc.RpcError, errors)

        times: list[float] = []
        errors: list[str] = []
        # Without a buffer, in which a line would be that select does not see.
        words = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
        for line in iter(words.readline, b""):
            word, *number = line.decode().split()
            if word != "end":
                times = [call()] if word == "start" else times_of(word, float(*number or "0"))
            if word != "begin":
                say(times)


if __name__ == "__main__":
    main(sys.argv[1])
