"""The client and the files of a job in one line."""

from __future__ import annotations

import pytest
from ktask import convert
from ktask.cli.clients import format_command, format_files
from ktask.cli.text import describe_job, list_jobs
from ktask.v1 import jobs_pb2 as pb


def a_job(*names: str, command: str = "", omitted: int = 0, **sources: str) -> pb.Job:
    job = pb.Job(id="7" * 32, command=command)
    job.spec.function = "file.crc32"
    job.spec.items_omitted = omitted
    for name in names:
        job.spec.items.add(handle="h", name=name)
    for role, name in sources.items():
        job.spec.sources[role].name = name
    return job


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("", ""),
        ("tar -c .", "tar -c ."),
        ("/usr/bin/python3.11 /usr/bin/ktask sum a", "ktask sum a"),
        ("/usr/bin/python3 -m ktask sum a", "python3 -m ktask sum a"),
        ("python3", "python3"),
        ("/usr/bin/ktask " + "x" * 80, "ktask " + "x" * 33 + "\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_command_when_listed_then_short(command: str, shown: str) -> None:
    assert format_command(convert.job(a_job(command=command))) == shown


@pytest.mark.parametrize(
    ("job", "shown"),
    [
        (a_job(), ""),
        (a_job("a"), "a"),
        (a_job("a", "b", "", omitted=90), "a and 92 more"),
        (a_job("/" + "d" * 90 + "/end"), "\N{HORIZONTAL ELLIPSIS}" + "d" * 23 + "/end"),
        (a_job(data="x.iso"), "x.iso"),
    ],
)
def test_files_when_listed_then_the_first_and_their_number(job: pb.Job, shown: str) -> None:
    assert format_files(convert.job(job)) == shown


def test_jobs_when_their_clients_are_known_then_columns_which_cannot_harm_a_terminal() -> None:
    bare = list_jobs([convert.job(a_job())])
    assert "FILES" not in bare
    assert "COMMAND" not in bare
    listed = list_jobs([convert.job(a_job("a\x1b[2J\nb", command="ktask sum a")), convert.job(a_job())])
    assert listed.splitlines()[0].endswith("UID  FILES        COMMAND")
    assert listed.splitlines()[1].endswith(r"a\x1b[2J\nb  ktask sum a")
    assert len(listed.splitlines()) == 3
    shown = describe_job(convert.job(a_job("a\n", "b", omitted=3, command="ktask sum a", data="x.iso")))
    assert r"items:       5: a\n, b, ..." in shown
    assert "command:     ktask sum a" in shown
    assert "source data: x.iso" in shown
