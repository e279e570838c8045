"""`ktask jobs --watch`."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from datetime import UTC, datetime

from ktask import convert
from ktask.cli.following import frame
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon, FakeJob
from tests.client.shell import KTASK, environment, ktask, running

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def a_job(number: int, state: pb.JobState.ValueType = pb.JOB_STATE_RUNNING) -> pb.Job:
    job = pb.Job(id=f"{number:032x}", state=state, command="ktask sum a")
    job.spec.function = "file.crc32"
    job.spec.items.add(handle="h", name="a\x1b[2J")
    job.create_time.seconds = 1000 + number
    return job


def add(fake: FakeDaemon, job: pb.Job) -> None:
    fake.jobs[job.id] = FakeJob(job)


def test_frame_when_the_terminal_is_small_then_cut_to_it_and_steered_by_nothing_else() -> None:
    shown = frame([convert.job(a_job(i)) for i in range(9)], 40, 5, NOW)
    assert shown.startswith("\x1b[H")
    assert shown.endswith("\x1b[J")
    lines = shown.removeprefix("\x1b[H").removesuffix("\x1b[J").split("\r\n")
    assert [len(line.removesuffix("\x1b[K")) for line in lines[:3]] == [39, 39, 39]
    assert lines[0].startswith("ID        STATE")
    assert lines[3:] == ["and 7 more\x1b[K", ""]
    assert all("\x1b" not in line.removesuffix("\x1b[K") for line in lines)


def test_watch_when_piped_then_a_line_for_each_change_and_an_interrupt_is_its_end(fake: FakeDaemon) -> None:
    add(fake, a_job(1))
    with running(fake.directory, "jobs", "--watch", "--interval", "0.01s") as process:
        assert process.stdout is not None
        line = f"{1:032x}  RUNNING  file.crc32  a\\x1b[2J  ktask sum a\n"
        assert process.stdout.readline().decode() == line
        add(fake, a_job(2))
        assert process.stdout.readline().decode().startswith(f"{2:032x}  RUNNING")
        add(fake, a_job(1, pb.JOB_STATE_SUCCEEDED))
        assert process.stdout.readline().decode().startswith(f"{1:032x}  SUCCEEDED")
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
        assert (process.returncode, rest, errors) == (0, b"", b"")


def test_watch_when_as_json_then_a_document_in_each_line(fake: FakeDaemon) -> None:
    add(fake, a_job(1))
    with running(fake.directory, "jobs", "-w", "--interval", "0.01s", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["state"] == "JOB_STATE_RUNNING"


def test_watch_when_on_a_terminal_then_a_table_is_drawn_over_itself(fake: FakeDaemon) -> None:
    add(fake, a_job(1))
    ours, theirs = pty.openpty()
    command = [str(KTASK), "jobs", "--watch", "--interval", "0.01s"]
    env = {**environment(fake.directory), "TERM": "xterm", "COLUMNS": "", "LINES": ""}
    with subprocess.Popen(command, env=env, stdout=theirs, stdin=theirs) as process:
        os.close(theirs)
        seen = b""
        while b"RUNNING" not in seen:
            seen += os.read(ours, 4096)
        add(fake, a_job(1, pb.JOB_STATE_FAILED))
        while b"FAILED" not in seen:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            try:
                os.read(ours, 4096)
            except OSError:  # the terminal has no other end any more
                break
        assert process.wait() == 0
    os.close(ours)
    assert seen.startswith(b"\x1b[2J\x1b[H")


def test_interval_when_given_without_watch_then_refused(fake: FakeDaemon) -> None:
    done = ktask(fake.directory, "jobs", "--interval", "2s")
    assert (done.status, done.out) == (2, "")
    assert "--interval: needs --watch" in done.err
