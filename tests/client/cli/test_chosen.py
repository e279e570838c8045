"""The jobs that a command line names."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon, FakeJob
from tests.client.shell import ktask

AGED_S = 3600


def add(fake: FakeDaemon, id: str, function: str = "file.crc32", uid: int = 0, age_s: float = 0.0) -> None:
    """Give the daemon an ended job."""
    job = pb.Job(id=id, state=pb.JOB_STATE_SUCCEEDED)
    job.spec.function, job.owner.uid = function, uid
    job.create_time.FromNanoseconds(int((time.time() - age_s) * 1e9))
    fake.jobs[id] = FakeJob(job)


@pytest.fixture
def known(fake: FakeDaemon) -> Path:
    """A daemon with four jobs; the last one is the newest."""
    add(fake, "abc1", age_s=AGED_S)
    add(fake, "abd2", "mem.fill", uid=os.getuid())
    add(fake, "f003", uid=12345)
    add(fake, "f114", "mem.fill", uid=12345)
    fake.jobs["f114"].message.state = pb.JOB_STATE_FAILED
    return fake.directory


def ids(known: Path, *words: str) -> list[str]:
    done = ktask(known, "jobs", *words)
    assert (done.status, done.err) == (0, "")
    return [line.split()[0] for line in done.out.splitlines()[1:]]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", "f114 f003 abd2 abc1"),
        ("--user 12345", "f114 f003"),
        ("--state failed", "f114"),
        ("--state failed --state SUCCEEDED", "f114 f003 abd2 abc1"),
        ("--function mem.fill", "f114 abd2"),
        ("--since 30m", "f114 f003 abd2"),
        ("--since 2h --function mem.fill --user 12345", "f114"),
        ("--state queued", ""),
    ],
)
def test_jobs_when_chosen_then_only_these(known: Path, words: str, wanted: str) -> None:
    assert ids(known, *words.split()) == wanted.split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--user nosuchuser", '--user: got "nosuchuser"'),
        ("--user 4294967296", "--user"),
        ("--state done", "--state"),
        ("--since ever", "time"),
    ],
)
def test_jobs_when_an_option_is_wrong_then_2_and_its_name(known: Path, words: str, said: str) -> None:
    done = ktask(known, "jobs", *words.split())
    assert (done.status, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("word", "wanted"), [("last", "f114"), ("f0", "f003"), ("F0", "f003"), ("abc1", "abc1")]
)
def test_job_when_named_shortly_then_found(known: Path, word: str, wanted: str) -> None:
    assert f"id: {wanted}\n".replace(" ", "") in ktask(known, "show", word).out.replace(" ", "")


def test_job_when_several_begin_so_then_2_and_they_are_named(known: Path) -> None:
    for command in ("show", "explain", "watch", "cancel"):
        done = ktask(known, command, "ab")
        assert (done.status, done.out) == (2, "")
        assert 'job "ab": 2 ids begin with it (abd2, abc1)' in done.err


@pytest.mark.parametrize("word", ["e", "abc11", "a b", "%"])
def test_job_when_none_is_named_so_then_2(known: Path, word: str) -> None:
    done = ktask(known, "show", word)
    assert (done.status, done.out) == (2, "")


def test_last_job_when_there_is_none_then_2(fake: FakeDaemon) -> None:
    done = ktask(fake.directory, "show", "last")
    assert (done.status, done.out) == (2, "")
    assert "knows none of your jobs" in done.err
