"""The client against a fake daemon: jobs, lists, functions, status."""

from __future__ import annotations

from pathlib import Path

import ktask
import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon, FakeJob
from tests.client.fake_messages import refusal


def test_run_when_refused_then_the_error_has_every_part(fake: FakeDaemon, client: ktask.Client) -> None:
    fake.refusal = refusal("OUT_OF_RANGE", "RANGE_BEYOND_END", "range 0: beyond", "spec.ranges[0].length")
    with pytest.raises(ktask.KtaskError) as caught:
        client.run("fake.steps")
    error = caught.value
    assert (error.code, error.reason, error.message) == (
        "OUT_OF_RANGE",
        "RANGE_BEYOND_END",
        "range 0: beyond",
    )
    assert (error.field, error.metadata) == ("spec.ranges[0].length", {"got": "x"})
    assert not isinstance(error, ktask.JobFailed | ktask.DaemonNotFound)


def test_run_when_a_path_has_an_unknown_role_then_refused_and_not_made(
    client: ktask.Client, tmp_path: Path
) -> None:
    with pytest.raises(ktask.KtaskError, match="has no such source") as caught:
        client.run("mem.fill", x=tmp_path / "a")
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "SOURCE_INVALID")
    assert not (tmp_path / "a").exists()
    with pytest.raises(ktask.KtaskError) as caught:
        client.run("no.such", data=tmp_path / "a")
    assert caught.value.reason == "FUNCTION_UNKNOWN"


def test_run_when_the_job_fails_then_job_failed_with_all_of_it(client: ktask.Client) -> None:
    with pytest.raises(ktask.JobFailed) as caught:
        client.run("fake.fail")
    job = caught.value.job
    assert caught.value.reason == "FUNCTION_ERROR"
    assert job.state == "DIRTY"
    assert job.error is not None
    assert (job.error.errno, job.error.chunk) == (28, ktask.Span(10, 20))
    for words in ("FUNCTION_ERROR", "it went wrong", "undone: [0, 10)", "dirty: [10, 15)"):
        assert words in str(caught.value)


def test_run_when_the_job_has_warnings_then_they_are_in_it(client: ktask.Client) -> None:
    job = client.run("fake.warn")
    assert (job.state, job.warnings_omitted) == ("SUCCEEDED", 7)
    assert job.warnings == (
        ktask.JobWarning("SOURCE_CHANGED", 'source "data": it moved', "data", None),
        ktask.JobWarning("SOURCE_CHANGED", "item 0: it\nmoved", "", 0),
    )


def test_run_when_each_time_then_a_request_id_of_its_own(fake: FakeDaemon, client: ktask.Client) -> None:
    for _ in range(2):
        with pytest.raises(ktask.JobFailed):
            client.run("fake.fail")
    first, second = (spec.request_id for spec in fake.specs)
    assert len(first) == len(second) == 32
    assert first != second


def test_submit_when_accepted_then_it_goes_on_and_can_be_watched(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    job = client.submit("fake.items")
    assert not job.state.ended
    assert client.job(job).id == client.job(job.id).id == job.id
    fake.step.release(5)
    *_, last = updates = list(client.watch(job))
    assert last.final
    assert last.job.state == "SUCCEEDED"
    assert [one.result["n"] for update in updates for one in update.results] == [0, 1, 2, 3, 4]
    assert [update.final for update in updates[:-1]] == [False] * (len(updates) - 1)


def test_submit_when_given_progress_then_a_type_error(client: ktask.Client) -> None:
    with pytest.raises(TypeError, match="progress"):
        client.submit("fake.steps", progress=print)  # type: ignore[arg-type]


def test_cancel_when_waited_for_then_ended_and_else_at_once(fake: FakeDaemon, client: ktask.Client) -> None:
    job = client.submit("fake.block")
    assert client.cancel(job, wait=False).state == "UNDOING"
    fake.undo.set()
    assert client.cancel(job.id).state == "CANCELLED"
    assert client.cancel(job.id).state == "CANCELLED"


def test_job_when_explained_then_its_history(fake: FakeDaemon, client: ktask.Client) -> None:
    fake.story.limit, fake.story.threads = "ONE_WRITER", 1
    fake.story.causes.add(code="ONE_WRITER", seconds=2)
    fake.story.moments.add(seconds=0.5, leads=1, state=2, causes=["X"], chunks_recalled=3)
    fake.jobs["j"] = FakeJob(pb.Job(id="j"))
    story = client.explain("j")
    assert story == ktask.Story(
        (ktask.Moment(0.5, ktask.JobState.RUNNING, 0, 1, ("X",), 3, 0),),
        (ktask.Cause("ONE_WRITER", "", "", "", 2.0),),
        "ONE_WRITER",
        1,
        0.0,
    )


def test_jobs_when_paged_then_all_and_newest_first(client: ktask.Client) -> None:
    for _ in range(5):
        with pytest.raises(ktask.JobFailed):
            client.run("fake.fail")
    assert [job.id for job in client.jobs()] == ["job4", "job3", "job2", "job1", "job0"]
    assert [job.id for job in client.jobs(page_size=4)] == ["job4", "job3", "job2", "job1", "job0"]
    assert list(client.jobs(states=[ktask.JobState.SUCCEEDED, "queued"])) == []
    with pytest.raises(ValueError, match="state: got 'ENDED'"):
        list(client.jobs(states=["ENDED"]))


def test_functions_when_asked_then_as_declared(client: ktask.Client) -> None:
    assert "file.copy" in [function.name for function in client.functions()]
    (copy,) = client.functions("file.copy")
    assert [(source.role, source.access) for source in copy.sources] == [("src", "READ"), ("dst", "WRITE")]
    assert copy.partial == "RERUN_SAFE"
    (block,) = client.functions("fake.block")
    assert [(one.type, one.default) for one in block.arguments] == [
        ("int", None),
        ("float", 0.5),
        ("bool", False),
        ("string", "a"),
    ]


def test_status_when_asked_then_read_whole(fake: FakeDaemon, client: ktask.Client) -> None:
    status = client.status()
    assert status.runtime_dir == str(fake.directory)
    assert status.mode == "AUTO"
    (pool,) = status.pools
    assert (pool.worker_class, pool.workers[0].state, pool.workers[0].autogroup_nice) == (
        "HELPER",
        "IDLE",
        19,
    )
    assert status.limits == {"jobs_queued": 100}
    assert status.allowance.reasons[0].code == "ON_BATTERY"
    assert (status.allowance.level, status.mode_until) == ("FEWER", None)
    assert (pool.workers[0].gives_way_by, pool.workers[0].raised) == ("idle cgroup", True)
    assert status.readings == (ktask.Reading("battery", "30 %", "/sys/class/power_supply"),)
    assert status.raising == ("autogroup nice 0",)
    assert client.drain() == ktask.Drained(True, 3)
    assert client.drain(resume=True).draining is False
    assert client.reload() == ktask.Reloaded(("a.b",), ("c.d",))
