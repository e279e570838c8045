"""One connection: watches that are cut, closing, many threads, errors."""

from __future__ import annotations

import threading
import zlib
from pathlib import Path

import grpc
import ktask
import pytest

from tests.client.fake import FakeDaemon


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


def test_client_when_closed_then_calls_fail_with_that_reason(client: ktask.Client) -> None:
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
