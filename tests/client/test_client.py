from __future__ import annotations

import gc
import threading
import zlib
from pathlib import Path
from typing import Any

import grpc
import ktask
import pytest
from ktask.link.waited import OnJob, WaitedJob
from ktask.v1 import handoff as wire
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon, refusal


def test_run_when_on_memory_then_worked_on_in_place_and_handed_over_once(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with ktask.memory(5000) as m:
        job = client.run("mem.fill", arg={"value": 7}, data=m)
        assert isinstance(job, ktask.Job)
        assert job.state is ktask.JobState.SUCCEEDED
        assert m[:] == b"\7" * 5000
        assert client.run("file.crc32", data=m).result == {"crc32": zlib.crc32(b"\7" * 5000)}
        assert (fake.handoff.hands, fake.handoff.held) == (1, 1)
        assert fake.handoff.flags == [wire.OWN_OFFSET]
    assert fake.handoff.held == 0


@pytest.mark.slow
def test_memory_when_gone_without_a_close_then_the_daemon_gives_it_back(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    m = ktask.memory(10)
    client.run("file.crc32", data=m)
    assert fake.handoff.held == 1
    del m
    gc.collect()
    assert fake.handoff.held == 0


def test_memory_when_two_clients_use_it_then_both_give_it_back(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with ktask.connect(fake.directory) as other, ktask.memory(10) as m:
        assert client.run("file.crc32", data=m).result == other.run("file.crc32", data=m).result
        assert fake.handoff.held == 2
        m.close()
        assert fake.handoff.held == 0
        with pytest.raises(ValueError, match="closed"):
            client.run("file.crc32", data=m)


def test_run_when_by_path_then_opened_here_and_given_back(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    source, target = tmp_path / "src", tmp_path / "dst"
    source.write_bytes(b"some bytes")
    client.run("file.copy", src=source, dst=str(target))
    assert target.read_bytes() == b"some bytes"
    assert fake.handoff.held == 0
    assert all(one.WhichOneof("from") == "handle" for one in fake.specs[0].sources.values())


def test_run_when_a_source_is_missing_then_the_target_is_not_made(
    client: ktask.Client, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        client.run("file.copy", dst=tmp_path / "dst", src=tmp_path / "no")
    assert str(caught.value.filename) == str(tmp_path / "no")
    assert not (tmp_path / "dst").exists()


def test_run_when_given_something_open_then_flushed_and_its_offset_left_alone(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    with open(tmp_path / "a", "wb+") as f:
        f.write(b"in the buffer")
        assert client.run("file.crc32", data=f).result == {"crc32": zlib.crc32(b"in the buffer")}
        assert f.tell() == 13
    assert fake.handoff.flags == [0]
    assert fake.handoff.held == 0


def test_run_when_over_items_then_all_are_handed_over_and_given_back(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    texts = [b"%d" % i for i in range(40)]
    items: list[Any] = []
    for text in texts:
        items.append(tmp_path / text.decode())
        items[-1].write_bytes(text)
    with ktask.memory(3) as m, ktask.file(items[1]) as f:
        m[:] = b"abc"
        items[0], items[1] = m, f
        result = client.run("file.crc32", items=iter(items)).result
        assert result == {"items": [{"crc32": zlib.crc32(text)} for text in [b"abc", *texts[1:]]]}
        assert fake.handoff.held == 2
    assert fake.handoff.held == 0


def test_ranges_when_on_memory_then_the_contracts_node_and_on_files_any(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    def nids() -> list[int | None]:
        return [one.nid if one.HasField("nid") else None for one in fake.specs[-1].ranges]

    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    ranges = [(0, 10), (10, 10, 0)]
    with ktask.memory(100) as m, ktask.file(path) as f, open(path, "rb") as g:
        client.run("file.crc32", data=m, ranges=ranges)
        assert nids() == [None, 0]
        for source in (f, g, path):
            client.run("file.crc32", data=source, ranges=ranges)
            assert nids() == [-1, 0]
        client.run("file.copy", src=m, dst=path, ranges=ranges)
        assert nids() == [-1, 0]
        client.run("file.crc32", data=f)
        assert nids() == []


def test_run_when_a_handle_is_given_then_it_is_named_as_it_is(fake: FakeDaemon, client: ktask.Client) -> None:
    with pytest.raises(ktask.KtaskError) as caught:
        client.run("file.crc32", data=ktask.Handle("0" * 32))
    assert caught.value.reason == "HANDLE_UNKNOWN"
    assert fake.specs[0].sources["data"].handle == "0" * 32
    assert fake.calls.count("Run") == 1


def test_run_when_the_handoff_connection_broke_then_handed_over_again(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    with ktask.memory(10) as m:
        client.run("file.crc32", data=m)
        fake.handoff.cut()
        client.run("file.crc32", data=m)
        assert fake.handoff.hands == 2


def test_run_when_its_handles_died_unnoticed_then_tried_once_more(
    fake: FakeDaemon, client: ktask.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks between the handing over and the call."""

    class CutFirst(WaitedJob):
        def wait(self, on_job: OnJob | None) -> pb.Job:
            monkeypatch.undo()
            fake.handoff.cut()
            fake.handoff.wait_until_held(0)
            return super().wait(on_job)

    monkeypatch.setattr("ktask.link.session.WaitedJob", CutFirst)
    with ktask.memory(10) as m:
        assert client.run("file.crc32", data=m).result == {"crc32": zlib.crc32(bytes(10))}
    assert fake.calls.count("Run") == 2


def test_run_when_the_keeper_refuses_then_its_reason_and_no_job(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    fake.handoff.refuse = wire.Refused(0, "FD_UNSUITABLE", "descriptor 0: on a network", 0)
    with ktask.memory(10) as m, pytest.raises(ktask.KtaskError, match="on a network") as caught:
        client.run("file.crc32", data=m)
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "FD_UNSUITABLE")
    assert caught.value.metadata == {"index": "0"}
    assert not fake.specs


def test_run_when_refused_then_everything_that_was_told(fake: FakeDaemon, client: ktask.Client) -> None:
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
    with pytest.raises(ktask.KtaskError, match="unknown to function") as caught:
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


def test_progress_when_the_watch_is_cut_then_followed_anew(fake: FakeDaemon, client: ktask.Client) -> None:
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


@pytest.mark.parametrize("cut_after", [1, 2])
def test_watch_when_cut_then_resumed_with_nothing_lost_and_nothing_twice(
    fake: FakeDaemon, client: ktask.Client, cut_after: int
) -> None:
    fake.cut_watches_after = cut_after
    job = client.submit("fake.items")
    found = []
    for update in client.watch(job):
        found += [one.index for one in update.results]
        fake.step.release()
    assert found == [0, 1, 2, 3, 4]
    resumed = [request.after_sequence for request in fake.watches]
    assert resumed[0] == 0
    assert len(resumed) > 2
    assert resumed == sorted(resumed)


def test_watch_when_cut_again_and_again_then_an_error(
    fake: FakeDaemon, client: ktask.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ktask.link.session._RESUME_MOST_S", 0.02)
    fake.cut_watches_after = 1
    job = client.submit("fake.steps")
    with pytest.raises(ktask.KtaskError, match="cut") as caught:
        list(client.watch(job))
    assert caught.value.code == "UNAVAILABLE"
    assert 1 < fake.calls.count("Watch") < 20


def test_watch_when_left_then_the_stream_is_ended(fake: FakeDaemon, client: ktask.Client) -> None:
    job = client.submit("fake.steps")
    for _ in client.watch(job):
        break
    fake.step.release(5)
    assert [update.job.state for update in client.watch(job)][-1] == "SUCCEEDED"


def test_watch_when_the_job_is_unknown_then_an_error(client: ktask.Client) -> None:
    with pytest.raises(ktask.KtaskError, match="unknown") as caught:
        list(client.watch("nope"))
    assert caught.value.reason == "JOB_UNKNOWN"


def test_cancel_when_waited_for_then_ended_and_else_at_once(fake: FakeDaemon, client: ktask.Client) -> None:
    job = client.submit("fake.block")
    assert client.cancel(job, wait=False).state == "UNDOING"
    fake.undo.set()
    assert client.cancel(job.id).state == "CANCELLED"
    assert client.cancel(job.id).state == "CANCELLED"


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


def test_client_when_closed_then_says_so(client: ktask.Client) -> None:
    client.close()
    client.close()
    with pytest.raises(ktask.KtaskError, match="closed") as caught:
        client.status()
    assert caught.value.reason == "CLIENT_CLOSED"
    with pytest.raises(ktask.KtaskError, match="closed"):
        client.run("fake.fail")


def test_client_when_closed_while_another_thread_waits_then_that_one_fails(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    fake.undo.set()
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            client.run("fake.block")
        except ktask.KtaskError as error:
            caught.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    fake.wait_for(lambda fake: fake.jobs)
    client.close()
    waiter.join()
    (error,) = caught
    assert isinstance(error, ktask.KtaskError)
    assert error.code == "CANCELLED"
    fake.wait_for(lambda fake: fake.only_job().cancelled)


def test_client_when_used_by_many_threads_then_nothing_is_mixed_up(
    fake: FakeDaemon, client: ktask.Client, tmp_path: Path
) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for i in range(10):
            text = b"%d %d" % (number, i)
            path = tmp_path / str(number)
            path.write_bytes(text)
            with ktask.memory(len(text)) as m:
                m[:] = text
                for source in (path, m):
                    found = client.run("file.crc32", data=source).result
                    if found != {"crc32": zlib.crc32(text)}:
                        wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert fake.handoff.held == 0


def test_error_when_its_details_are_none_that_can_be_read_then_the_status_remains(
    fake: FakeDaemon, client: ktask.Client
) -> None:
    class Plain(grpc.Status):
        code = grpc.StatusCode.INTERNAL
        details = "broken"
        trailing_metadata = (("grpc-status-details-bin", b"\xff\xff\xff"),)

    fake.refusal = Plain()
    with pytest.raises(ktask.KtaskError, match="broken") as caught:
        client.run("fake.fail")
    assert (caught.value.code, caught.value.reason) == ("INTERNAL", "INTERNAL")
