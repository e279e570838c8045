"""Waiting for a job: its deadline and its progress."""

from __future__ import annotations

import threading

import ktask
import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon
from tests.client.fake_messages import refusal


def test_run_when_past_its_deadline_then_the_ended_job(fake: FakeDaemon, client: ktask.Client) -> None:
    def undo_when_watched() -> None:
        fake.wait_for(lambda fake: "Watch" in fake.calls)
        fake.undo.set()

    helper = threading.Thread(target=undo_when_watched)
    helper.start()
    with pytest.raises(ktask.JobFailed) as caught:
        client.run("fake.block", timeout=0.2)
    helper.join()
    assert caught.value.job.state == "CANCELLED"
    assert caught.value.job.error is not None
    assert caught.value.job.error.undone == (ktask.Span(0, 5),)
    assert "Cancel" not in fake.calls


def test_run_when_past_its_deadline_and_never_ended_then_an_error(
    client: ktask.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ktask.link.waited.DEADLINE_GRACE_S", 0.3)
    with pytest.raises(ktask.KtaskError, match="not ended") as caught:
        client.run("fake.block", timeout=0.1)
    assert caught.value.reason == "DEADLINE"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_run_when_the_timeout_is_none_that_can_be_then_a_value_error(
    client: ktask.Client, timeout: float
) -> None:
    with pytest.raises(ValueError, match="timeout"):
        client.run("fake.fail", timeout=timeout)


def test_progress_when_given_then_called_in_this_thread_to_the_end(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    seen: list[int] = []

    def progress(job: ktask.Job) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(job.progress.positions_done)
        fake.step.release()

    job = client.run("fake.steps", progress=progress)
    assert job.progress.positions_done == 5
    assert seen == sorted(seen)
    assert seen[-1] == 5


def test_progress_when_the_watch_is_cut_then_followed_again(fake: FakeDaemon, client: ktask.Client) -> None:
    fake.cut_watches_after = 2
    seen: list[int] = []

    def progress(job: ktask.Job) -> None:
        seen.append(job.progress.positions_done)
        fake.step.release()

    client.run("fake.steps", progress=progress)
    assert fake.calls.count("Watch") >= 2
    assert seen[-1] == 5


def test_progress_when_it_raises_then_the_job_is_cancelled_and_that_is_raised(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    fake.undo.set()

    def progress(job: ktask.Job) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        client.run("fake.block", progress=progress)
    assert fake.only_job().message.state == pb.JOB_STATE_CANCELLED
    assert caught.value.__notes__ == ["job job0 ended CANCELLED"]


def test_progress_when_refused_then_the_refusal(fake: FakeDaemon, client: ktask.Client) -> None:
    fake.refusal = refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", "full")
    with pytest.raises(ktask.KtaskError, match="full") as caught:
        client.run("fake.steps", progress=lambda job: None)
    assert caught.value.reason == "QUEUE_FULL"
