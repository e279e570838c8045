"""Attacks by processes of other uids, as rounds that go on while they run."""

from __future__ import annotations

import pwd
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ktask.v1 import jobs_pb2 as pb

from tests.hostile.attacks import AT_ONCE, Attack, Scene, all_of, batched
from tests.support.real_daemon import connected, spin
from tests.support.users import REPOSITORY, OtherUsers

STRANGER = 60001
"""A uid that the machine does not know. It shares an account with the neighbour, which is unknown, too."""

MANY = range(60100, 60170)
"""As many uids as an owner of subordinate uids can use."""

MANY_MIXTURE = "a mixture by 70 uids of one account"
MANY_COMPUTE = "(70 programs that compute for themselves)"
MIXTURE_MS = 1
"""CPU time of the attacking program for one round of a mixture. Measured: 0.7 ms."""

OTHERS_JOBS = 9_500

PROGRAM = """
import sys
sys.path[0] = sys.argv.pop(1)
from tests.hostile import rude
rude.main(*sys.argv[1:])
"""
"""Starts rude.py. Root loads it from this checkout, which the other users may be unable to read."""

BEGIN_S = 60.0


def known_uid() -> int:
    """Return a uid that has an account of its own."""
    return next(entry.pw_uid for entry in pwd.getpwall() if 0 < entry.pw_uid < 60_000)


@contextmanager
def rude_process(
    run_as: OtherUsers, place: Path, name: str, count: int, uids: Sequence[int]
) -> Iterator[subprocess.Popen[str]]:
    """Run the attack: all uids have begun when the block begins, and it ends with the block."""
    numbers = [str(count), *map(str, uids)]
    words: list[str | Path] = [run_as.interpreter, "-c", PROGRAM, REPOSITORY, str(place), name, *numbers]
    process = run_as.start(0, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for _ in uids:
            assert process.stdout.readline() == "begun\n", name
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def by(name: str, count: int, uids: Sequence[int]) -> Attack:
    """Make an attack of rude.py by these uids."""

    def attack(scene: Scene) -> Iterator[None]:
        assert scene.run_as is not None
        with rude_process(scene.run_as, scene.daemon.place, name, count, uids):
            while True:
                time.sleep(0.05)
                yield

    return attack


def beside_jobs(attack: Attack, *, cancel: bool = True) -> Attack:
    """An attack while uid 0 has nearly 10,000 queued jobs."""

    def attacked(scene: Scene) -> Iterator[None]:
        submit = pb.SubmitRequest(spec=spin(1, 200))
        with connected(scene.daemon.socket) as stubs:
            ids: list[str] = []
            try:
                for _ in range(OTHERS_JOBS // AT_ONCE):
                    ids += [one.job.id for one in all_of(stubs.jobs.Submit, [submit] * AT_ONCE)]
                yield from attack(scene)
            finally:
                for some in batched(ids, AT_ONCE):
                    all_of(stubs.jobs.Cancel, (pb.CancelRequest(id=one) for one in some))

    return attacked


def rude_attacks() -> Mapping[str, Attack]:
    """Return all attacks by a uid with an account of its own, and some by one that shares the neighbour's."""
    one, other = [known_uid()], [STRANGER]
    return {
        "resets, 8 connections": by("resets", 8, one),
        "resets, 8, same account": by("resets", 8, other),
        "resets, 25 connections": by("resets", 25, one),
        "resets, 100 connections": by("resets", 100, one),
        "pings, 20 connections": by("pings", 20, one),
        "settings, 20 connections": by("settings", 20, one),
        "unknown frames, 20 connections": by("unknown", 20, one),
        "unknown frames, 200 connections": by("unknown", 200, one),
        "unknown frames, 200, same account": by("unknown", 200, other),
        "reflection, 20 streams, many in a frame": by("reflection", 20, one),
        "lists of 9,500 jobs of others": beside_jobs(by("lists", 4, one)),
        "lists of 9,500 jobs by an admin": beside_jobs(by("lists", 4, [0])),
        "64 watches of 100,000 items": by("watches", 64, one),
        "500 half requests of 4 MiB": by("halves", 500, one),
        "100 unread answers of 100,000 items": by("unread", 100, one),
        "unread results of text.search": by("unread-results", 20, one),
        "all kinds of memory by one uid": by("everything", 100, one),
        "a mixture by one uid": by("mixture", 20, one),
        "a mixture, same account": by("mixture", 20, other),
        MANY_COMPUTE: by("computing", MIXTURE_MS, MANY),
        MANY_MIXTURE: by("mixture", 4, MANY),
    }
