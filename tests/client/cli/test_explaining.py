"""The history of a job in words."""

from __future__ import annotations

import json

import pytest
from ktask import convert
from ktask.cli.explaining import explain
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon, FakeJob
from tests.client.shell import ktask

WHEN_S = 1_700_000_000


def a_job(state: pb.JobState.ValueType = pb.JOB_STATE_SUCCEEDED) -> pb.Job:
    job = pb.Job(id="7" * 32, state=state, command="ktask sum a\x1b")
    job.spec.function = "file.sha256"
    job.spec.items.add(handle="h", name="a\n")
    job.create_time.seconds, job.start_time.seconds, job.end_time.seconds = WHEN_S, WHEN_S + 2, WHEN_S + 12
    job.cpu.lead_seconds, job.cpu.helper_seconds, job.cpu.chunks_recalled = 1.5, 6, 2
    return job


def a_story() -> pb.Story:
    story = pb.Story(limit="BATTERY_LOW", threads=3, step_seconds=0.25)
    story.moments.add(state=pb.JOB_STATE_QUEUED, causes=["WORKERS_BUSY"])
    story.moments.add(state=pb.JOB_STATE_RUNNING, seconds=2, leads=1, helpers=2, merged=5)
    story.moments.add(
        state=pb.JOB_STATE_RUNNING, seconds=4, leads=1, causes=["BATTERY_LOW"], chunks_recalled=2
    )
    story.moments.add(state=pb.JOB_STATE_COMBINING, seconds=11)
    story.causes.add(
        code="BATTERY_LOW", message="the battery is low", value="9 %", threshold="below 10 %", seconds=7
    )
    story.causes.add(code="WORKERS_BUSY", seconds=2)
    return story


SHOWN = r"""job:      77777777777777777777777777777777 file.sha256 SUCCEEDED
command:  ktask sum a\x1b
files:    a\n
accepted: TIME

time line, from its acceptance on:
        0.00 s  waits; because of WORKERS_BUSY
        2.00 s  running: a lead and 2 helpers; and then 5 more changes
        4.00 s  running: a lead; 2 chunks taken back; because of BATTERY_LOW (the battery is low)
          11 s  combining: no worker
          12 s  file.sha256 done in 10 s

CPU time: 7.50 s: leads 1.50 s, helpers 6.00 s; 0.25 s of it for steps such as combining and undo
  2 chunks taken back

what limited it, and for how long:
        7.00 s  BATTERY_LOW: the battery is low (9 %, threshold below 10 %)
        2.00 s  WORKERS_BUSY: other jobs before it had the workers

limited by: BATTERY_LOW: the battery is low (9 %, threshold below 10 %)
  it may have 3 workers at the same time"""


def test_story_when_explained_then_in_words_which_cannot_harm_a_terminal() -> None:
    shown = explain(convert.job(a_job()), convert.story(a_story()))
    lines = ["accepted: TIME" if line.startswith("accepted:") else line for line in shown.splitlines()]
    assert "\n".join(lines) == SHOWN


def test_story_when_the_job_was_over_at_once_then_its_times_are_the_time_line() -> None:
    story = pb.Story(limit="TOO_SMALL", threads=1)
    story.causes.add(code="TOO_SMALL", seconds=10)
    shown = explain(convert.job(a_job()), convert.story(story))
    assert "2.00 s  its first worker began\n          12 s  file.sha256 done in 10 s" in shown
    assert "limited by: TOO_SMALL: too small: there was no more work to divide" in shown
    assert shown.endswith("it may have 1 worker at the same time")


def test_story_when_the_job_failed_or_has_not_begun_then_it_says_so() -> None:
    failed = a_job(pb.JOB_STATE_FAILED)
    failed.error.reason, failed.error.message = "FUNCTION_ERROR", "it went wrong"
    assert "FUNCTION_ERROR: it went wrong" in explain(convert.job(failed), convert.story(pb.Story()))
    shown = explain(convert.job(pb.Job(state=pb.JOB_STATE_QUEUED)), convert.story(pb.Story()))
    assert "limited by: nothing; it took no time" in shown


@pytest.mark.parametrize("word", ["last", "7777", "7" * 32])
def test_explain_when_a_job_is_named_then_printed_or_as_json(fake: FakeDaemon, word: str) -> None:
    fake.jobs["7" * 32], fake.story = FakeJob(a_job()), a_story()
    shown = ktask(fake.directory, "explain", word)
    assert (shown.status, shown.err) == (0, "")
    assert "limited by: BATTERY_LOW" in shown.out
    document = json.loads(ktask(fake.directory, "explain", word, "--json").out)
    assert document["story"]["limit"] == "BATTERY_LOW"
    assert document["job"]["id"] == "7" * 32
