"""The client and the command line against the real daemon.

Tests: client/ktask/client.py, client/ktask/cli/main.py
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path

import ktask
import numpy as np
import pytest
from ktask.link import locate, trust

from tests.client.processes import end
from tests.client.shell import ended, running
from tests.client.shell import ktask as command

MIB = 1 << 20
WAIT_S = 60


@pytest.fixture
def client(real: Path) -> Iterator[ktask.Client]:
    with ktask.connect(real) as connected:
        yield connected


def test_memory_when_filled_summed_and_copied_then_as_python_would(
    client: ktask.Client, tmp_path: Path
) -> None:
    with ktask.memory(8 * MIB + 5) as m:
        client.run("mem.fill", arg={"value": 7}, data=m)
        assert not np.count_nonzero(np.frombuffer(m, np.uint8) != 7)
        m[100:200] = bytes(100)
        result = client.run("file.crc32", data=m).result
        assert result is not None
        assert result["crc32"] == zlib.crc32(m)
        client.run("file.copy", src=m, dst=tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == m[:]
        client.run("mem.fill", arg={"value": 1}, data=m, ranges=[(0, 4096), (8192, 4096, -1), (16384, 1, 0)])
        assert [m[at] for at in (0, 4095, 4096, 8192, 12288, 16384, 16385)] == [1, 1, 7, 1, 7, 1, 7]


def test_files_when_of_every_kind_of_source_then_one_result(client: ktask.Client, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(random.Random(1).randbytes(3 * MIB))
    wanted = {"crc32": zlib.crc32(path.read_bytes()), "bytes": 3 * MIB}
    with ktask.file(path) as f, open(path, "rb") as g:
        g.seek(5)
        for source in (path, str(path), os.fsencode(path), f, g):
            assert client.run("file.crc32", data=source, max_threads=2).result == wanted
        assert g.tell() == 5
        items = client.run("file.crc32", items=[path, f, g, path]).result
    assert items == {"items": [wanted] * 4}


def test_copy_when_it_fails_then_what_was_undone(client: ktask.Client, tmp_path: Path) -> None:
    with ktask.memory(MIB) as m, pytest.raises(ktask.JobFailed) as caught:
        client.run("selftest.undo_log", arg={"fail_at": 500_000}, data=m, min_chunk=4096)
    job = caught.value.job
    assert job.state == "FAILED"
    assert job.error is not None
    assert job.error.reason == caught.value.reason == "FUNCTION_ERROR"
    assert job.error.chunk is not None
    assert job.error.chunk.start <= 500_000 < job.error.chunk.end
    assert job.error.undone


def test_undo_when_switched_off_then_dirty(client: ktask.Client) -> None:
    with ktask.memory(MIB) as m, pytest.raises(ktask.JobFailed) as caught:
        client.run("selftest.undo_log", arg={"fail_at": 500_000}, data=m, min_chunk=4096, undo=False)
    assert caught.value.job.state == "DIRTY"
    assert caught.value.job.spec.undo is False
    assert caught.value.job.error is not None
    assert caught.value.job.error.dirty


def test_run_when_past_its_deadline_then_cancelled_and_said(client: ktask.Client) -> None:
    with pytest.raises(ktask.JobFailed) as caught:
        client.run("selftest.spin", arg={"ms": 10}, ranges=[(0, 10_000)], timeout=0.3)
    assert caught.value.job.state == "CANCELLED"
    assert caught.value.reason == "DEADLINE"


@pytest.mark.parametrize("progress", ["None", "lambda job: None"])
def test_ctrl_c_when_waiting_then_every_byte_is_undone(real: Path, progress: str) -> None:
    code = f"""
        import collections, ktask
        client = ktask.connect({str(real)!r})
        memory = ktask.memory(4096)
        print("up", flush=True)
        try:
            client.run("selftest.undo_log", arg={{"delay_ms": 20}}, data=memory, progress={progress})
        except KeyboardInterrupt as interrupt:
            print(*interrupt.__notes__)
            print(sorted(set(memory)) in ([0, 17], [0]), next(client.jobs()).state)
    """
    with (
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
        ) as process,
        ktask.connect(real) as client,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        while not any(job.owner.pid == process.pid and job.progress.chunks_done for job in client.jobs()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WAIT_S)
    note, rest = out.splitlines()
    assert note.endswith("ended CANCELLED")
    assert rest == "True CANCELLED"


def test_progress_when_watched_then_it_grows_to_the_end(client: ktask.Client) -> None:
    seen: list[ktask.Job] = []
    job = client.run("selftest.spin", arg={"ms": 5}, ranges=[(0, 100)], progress=seen.append)
    assert job.progress.positions_done == 100
    done = [one.progress.positions_done for one in seen]
    assert done == sorted(done)
    assert len(done) > 2
    assert seen[-1].state == "SUCCEEDED"


def test_detached_job_when_watched_listed_and_cancelled_then_all_agree(client: ktask.Client) -> None:
    job = client.submit("selftest.spin", arg={"ms": 10}, ranges=[(0, 10_000)])
    assert job.detached
    assert job.id in [one.id for one in client.jobs(function="selftest.spin")]
    for update in client.watch(job):
        if update.job.state == "RUNNING":
            break
    cancelled = client.cancel(job)
    assert cancelled.state == "CANCELLED"
    assert client.job(job) == cancelled
    assert [update.final for update in client.watch(job)][-1]
    assert job.id in [one.id for one in client.jobs(states=["CANCELLED"])]


def test_watch_when_over_items_then_every_result_once(client: ktask.Client, tmp_path: Path) -> None:
    paths = []
    for i in range(50):
        paths.append(tmp_path / str(i))
        paths[-1].write_bytes(b"%d" % i)
    job = client.submit("file.crc32", items=paths)
    found = [one for update in client.watch(job) for one in update.results]
    assert [one.index for one in found] == list(range(50))
    assert [one.result["crc32"] for one in found] == [zlib.crc32(b"%d" % i) for i in range(50)]


def test_handles_when_given_back_then_the_daemon_holds_none(client: ktask.Client, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = client.status().counters["handles"]
    with ktask.memory(10) as m:
        client.run("file.crc32", data=m)
        client.run("file.crc32", data=path)
        client.run("file.crc32", items=[path] * 20)
        assert client.status().counters["handles"] == before + 1
    assert client.status().counters["handles"] == before


def test_refusals_when_of_every_kind_then_reason_and_field(client: ktask.Client, tmp_path: Path) -> None:
    with ktask.memory(10) as m:
        with pytest.raises(ktask.KtaskError) as caught:
            client.run("file.crc32", data=m, ranges=[(0, 11)])
        assert (caught.value.code, caught.value.reason) == ("OUT_OF_RANGE", "RANGE_BEYOND_END")
        assert caught.value.field == "spec.ranges[0]"
        with pytest.raises(ktask.KtaskError) as caught:
            client.run("mem.fill", arg={"value": 256}, data=m)
        assert caught.value.reason == "ARGUMENT_INVALID"
        with pytest.raises(ktask.KtaskError) as caught:
            client.run("mem.fill", nope=m)
        assert caught.value.reason == "SOURCE_INVALID"
    (tmp_path / "a").write_bytes(b"x")
    with ktask.file(tmp_path / "a") as f, pytest.raises(ktask.KtaskError) as caught:
        client.run("mem.fill", data=f)
    assert caught.value.reason == "ACCESS_MISSING"
    with open("/proc/self/status") as g, pytest.raises(ktask.KtaskError) as caught:
        client.run("file.crc32", data=g)
    assert caught.value.reason == "FD_UNSUITABLE"
    with pytest.raises(ktask.KtaskError) as caught:
        client.job("0" * 32)
    assert caught.value.reason == "JOB_UNKNOWN"
    with pytest.raises(ktask.KtaskError) as caught:
        client.run("no.such")
    assert caught.value.reason == "FUNCTION_UNKNOWN"


def test_status_when_asked_then_the_pools_of_this_machine(real: Path, client: ktask.Client) -> None:
    status = client.status()
    assert status.runtime_dir == str(real)
    assert status.selftest
    assert {pool.worker_class for pool in status.pools} == {"HELPER", "LEAD"}
    assert client.drain().draining
    with pytest.raises(ktask.KtaskError) as caught:
        client.run("selftest.noop")
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "DRAINING")
    assert not client.drain(resume=True).draining
    client.run("selftest.noop")


def test_command_when_a_job_is_run_then_result_and_files_are_right(real: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.write_bytes(random.Random(2).randbytes(2 * MIB))
    done = command(real, "--json", "run", "file.crc32", f"data={source}")
    assert json.loads(done.out)["result"]["crc32"] == zlib.crc32(source.read_bytes())
    done = command(real, "run", "file.copy", f"src={source}", f"dst={tmp_path / 'dst'}", "--max-threads", "2")
    assert (done.status, done.err) == (0, "")
    assert (tmp_path / "dst").read_bytes() == source.read_bytes()
    assert command(real, "run", "selftest.spin", "--arg", "ms=1", "--range", "0:30").status == 0
    assert command(real, "run", "selftest.noop").status == 0


def test_command_when_a_job_fails_is_refused_or_interrupted_then_its_status(real: Path) -> None:
    done = command(real, "run", "selftest.fail", "--arg", "at=3", "--range", "0:10")
    assert (done.status, done.out) == (1, "")
    assert "FUNCTION_ERROR" in done.err
    assert command(real, "run", "selftest.fail", "--arg", "at=x").status == 2
    with running(real, "--json", "run", "selftest.spin", "--arg", "ms=10", "--range", "0:10000") as process:
        with ktask.connect(real) as client:
            while not any(job.owner.pid == process.pid for job in client.jobs()):
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        done = ended(process)
    assert done.status == 130
    assert json.loads(done.out)["state"] == "JOB_STATE_CANCELLED"


def test_hold_when_its_handle_is_used_by_another_program_then_it_works(
    real: Path, client: ktask.Client, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with running(real, "hold", f"a={tmp_path / 'a'}") as process:
        assert process.stdout is not None
        handle = process.stdout.readline().decode().split()[1]
        result = client.run("file.crc32", data=ktask.Handle(handle)).result
        assert result == {"crc32": zlib.crc32(b"abc"), "bytes": 3}
        process.send_signal(signal.SIGTERM)
        assert ended(process).status == 0


def test_embedded_daemon_when_nothing_is_there_then_started_shared_and_good(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(short_dir / "no"))
    short_dir.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    with ktask.connect() as client, ktask.connect() as again:
        pid = client.status().pid
        try:
            assert client.socket == str(short_dir / "ktaskd" / "ktaskd.sock")
            assert again.status().pid == pid != os.getpid()
            with ktask.memory(MIB) as m:
                assert client.run("file.crc32", data=m).result == {
                    "crc32": zlib.crc32(bytes(MIB)),
                    "bytes": MIB,
                }
        finally:
            end(pid)
    assert not Path(f"/proc/{pid}/exe").exists()


def test_run_when_more_memory_is_wanted_than_the_machine_has_then_refused_at_once(real: Path) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    done = command(real, "run", "mem.fill", "--memory", f"data={4 * total}", "value=1")
    assert done.status == 1
    assert f'source "data": the job would allocate {4 * total} bytes, and there are ' in done.err
    assert done.err.count("\n") == 1


def test_job_when_its_client_is_known_then_its_command_and_its_files_are_shown(
    client: ktask.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [Path(f"{i}") for i in range(20)]
    for path in paths:
        path.write_bytes(b"x")
    with open(paths[0], "rb") as opened:
        job = client.run("file.crc32", items=[opened, *paths[1:]])
    assert [item.name for item in job.spec.items] == [str(path) for path in paths[:16]] + [""] * 4
    with ktask.memory(1) as m:
        assert client.run("file.crc32", data=m).spec.sources["data"].name == ""
    # A thread of the daemon reads the command line, once for each connection.
    while not (command := client.job(job.id).command):
        pass
    assert "python" in command


def test_explain_when_a_job_was_too_small_then_it_says_so_here_too(real: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * MIB)
    assert command(real, "run", "file.crc32", f"data={tmp_path / 'a'}").status == 0
    shown = command(real, "explain", "last")
    assert (shown.status, shown.err) == (0, "")
    assert f"files:    {tmp_path / 'a'}"[-20:] in shown.out
    assert "TOO_SMALL" in shown.out
    document = json.loads(command(real, "explain", "last", "--json").out)
    assert document["story"]["threads"] == 1
