"""The functions that exist for tests."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fault.work import GUARD, Work, memory


def spin(rng: random.Random, place: Path) -> Work:
    length = str(rng.randrange(5, 60))
    return Work("selftest.spin", {"arg": {"ms": 1.0}, "ranges": [{"length": length}]})


def noop(rng: random.Random, place: Path) -> Work:
    return Work("selftest.noop", {"ranges": [{"length": str(rng.randrange(1, 100_000))}]})


def _log(rng: random.Random, fail_at: int, size: int) -> Work:
    fd = memory(size + GUARD, rng)
    before = bytes(size + GUARD)
    fields = {
        "arg": {"fail_at": fail_at, "record": rng.randrange(1, 20)},
        "ranges": [{"length": str(size)}],
        "min_chunk": str(rng.randrange(1, 2000)),
    }
    return Work(
        "selftest.undo_log",
        fields,
        {"data": fd},
        target=fd,
        before=before,
        after=b"\1" * size + before[size:],
        fails=fail_at >= 0,
        counts=True,
    )


def log(rng: random.Random, place: Path) -> Work:
    return _log(rng, -1, rng.randrange(1_000, 8_000))


def bad_log(rng: random.Random, place: Path) -> Work:
    size = rng.randrange(1_000, 8_000)
    return _log(rng, rng.randrange(size), size)
