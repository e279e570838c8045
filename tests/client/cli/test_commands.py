"""The command line against a fake daemon: its output and exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from ktask.v1 import handoff as wire

from tests.client.fake import FakeDaemon
from tests.client.fake_messages import refusal
from tests.client.shell import ended, environment, ktask, running


def test_run_when_done_then_the_result_and_nothing_else(fake: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    done = ktask(fake.directory, "run", "file.crc32", f"data={path}")
    assert (done.status, done.out, done.err) == (0, f"crc32: {zlib.crc32(b'abc')}\n", "")


def test_run_when_everything_is_given_then_everything_is_sent(fake: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "new"
    words = [
        "mem.fill",
        "--arg",
        "value=0x7",
        f"data={path}",
        "--range",
        "0:4K@-1",
        "8K:1",
        "--min-chunk",
        "1M",
    ]
    done = ktask(fake.directory, "run", *words, "--max-threads", "3", "--no-undo", "--progress", "off")
    assert (done.status, done.err) == (0, "")
    (spec,) = fake.specs
    assert [(one.start, one.length, one.nid) for one in spec.ranges] == [(0, 4096, -1), (8192, 1, -1)]
    assert (spec.min_chunk, spec.max_threads, spec.undo) == (1 << 20, 3, False)
    assert spec.arg.fields["value"].number_value == 7
    assert path.exists()


def test_run_when_on_memory_then_made_for_it(fake: FakeDaemon) -> None:
    done = ktask(fake.directory, "--json", "run", "file.crc32", "--memory", "data=64K")
    job = json.loads(done.out)
    assert job["result"] == {"crc32": zlib.crc32(bytes(1 << 16))}
    assert ".0" not in done.out
    assert job["state"] == "JOB_STATE_SUCCEEDED"


def test_run_when_over_items_then_a_line_for_each(fake: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    done = ktask(fake.directory, "run", "file.crc32", "--items", tmp_path / "a", tmp_path / "b")
    assert done.out.splitlines() == [
        f"{tmp_path}/a: crc32={zlib.crc32(b'1')}",
        f"{tmp_path}/b: crc32={zlib.crc32(b'2')}",
    ]


def test_run_when_a_name_is_no_text_then_it_works_and_is_shown_escaped(
    fake: FakeDaemon, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    missing = ktask(fake.directory, "run", "file.crc32", b"data=" + path)
    assert missing.status == 2
    assert missing.err == f'ktask: file "{tmp_path}/\\udcff\\udcfe": No such file or directory\n'
    with open(path, "wb") as f:
        f.write(b"abc")
    assert ktask(fake.directory, "run", "file.crc32", b"data=" + path).out == f"crc32: {zlib.crc32(b'abc')}\n"
    strange = ktask(fake.directory, "run", "file.crc32", b"\xff=/etc/hosts")
    assert strange.status == 2


def test_run_when_the_job_fails_then_1_and_all_of_it_on_stderr(fake: FakeDaemon) -> None:
    done = ktask(fake.directory, "run", "fake.fail", "--arg", "count=1")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "ktask: job job0 (fake.fail) ended DIRTY; FUNCTION_ERROR: it went wrong; "
        "undone: [0, 10); dirty: [10, 15)\n"
    )
    done = ktask(fake.directory, "run", "fake.fail", "--json")
    assert done.status == 1
    assert json.loads(done.out)["error"]["errno"] == 28


def test_job_when_it_has_warnings_then_they_are_on_stderr_and_the_status_is_0(fake: FakeDaemon) -> None:
    lines = 'SOURCE_CHANGED: source "data": it moved', "SOURCE_CHANGED: item 0: it\\nmoved", "7 more"
    wanted = "".join(f"ktask: warning: {line}\n" for line in lines)
    for words in (["run", "fake.warn"], ["run", "fake.warn", "--json"], ["watch", "job0"]):
        done = ktask(fake.directory, *words)
        assert (done.status, done.err) == (0, wanted), words
    shown = ktask(fake.directory, "show", "job0").out
    assert all(f"warning: {line}\n" in shown + "\n" for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("runn file.copy", 'did you mean "run"?'),
        ("run fake.steps --arg count=x", 'argument "count": got "x", wanted an integer'),
        ("run fake.steps --arg nope=1", 'argument "nope": function "fake.steps" has no such argument'),
        ("run fake.steps --arg count=1 count=2", 'argument "count": given twice'),
        ("run no.such", 'function "no.such": unknown'),
        ("run file.crc32 data", 'got "data", wanted NAME=PATH'),
        ("run file.crc32 data=", "empty path"),
        ("run file.crc32 data=/etc/hosts data=/etc/passwd", 'source "data": given twice'),
        ("run file.crc32 data=/etc/hosts --memory data=1", 'source "data": given twice'),
        ("run file.crc32 timeout=/etc/hosts", "keyword"),
        ("run file.crc32 nope=/etc/hosts", "has no such source"),
        ("run file.crc32 data=/etc", "Is a directory|got a directory"),
        ("run file.crc32 data=/dev/null", "character device"),
        ("run file.crc32 data=/no/such", "No such file"),
        ("run file.crc32 --memory data=0", 'memory "data": nbytes: got 0'),
        ("run file.crc32 --memory data=4194304T", 'memory "data"|size: got'),
        ("run file.crc32 --range 5", "range: got"),
        ("functions no.such", "unknown"),
        ("show nope", "job: unknown"),
        ("watch nope", "job: unknown"),
        ("cancel nope", "job: unknown"),
        ("hold a=/no/such", "No such file"),
        ("hold a=/etc", "directory"),
        ("hold a=/etc/hosts a=/etc/passwd", "given twice"),
        ("mode --for 1h", "--for: given without a mode"),
        ("mode off", "invalid choice"),
        ("status --frob", "unrecognized arguments: --frob"),
    ],
)
def test_command_when_the_input_is_bad_then_2_and_what_is_wrong(
    fake: FakeDaemon, words: str, said: str
) -> None:
    done = ktask(fake.directory, *words.split())
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("ktask: ")
    assert any(one in done.err for one in said.split("|")), done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 2),
        ("PERMISSION_DENIED", 2),
        ("OUT_OF_RANGE", 2),
        ("FAILED_PRECONDITION", 2),
        ("RESOURCE_EXHAUSTED", 1),
        ("INTERNAL", 1),
        ("UNAVAILABLE", 3),
    ],
)
def test_run_when_refused_then_the_status_of_its_kind(fake: FakeDaemon, code: str, status: int) -> None:
    fake.refusal = refusal(code, "SOME_REASON", "it is so")
    done = ktask(fake.directory, "run", "fake.steps")
    assert (done.status, done.out, done.err) == (status, "", "ktask: it is so\n")


def test_run_when_the_keeper_refuses_a_file_then_2(fake: FakeDaemon) -> None:
    fake.handoff.refuse = wire.Refused(0, "KEEPER_SILENT", "no answer", 0)
    assert ktask(fake.directory, "run", "file.crc32", "data=/etc/hosts").status == 2


def test_command_when_there_is_no_daemon_then_3(tmp_path: Path) -> None:
    for words in (["jobs"], ["run", "x"], ["hold", "a=/etc/hosts"], ["--socket", tmp_path, "status"]):
        done = ktask(tmp_path / "no", *words)
        assert (done.status, done.out) == (3, "")
        assert str(tmp_path) in done.err


@pytest.mark.parametrize("json_words", [[], ["--json"]])
def test_run_when_interrupted_then_130_after_the_undo(fake: FakeDaemon, json_words: list[str]) -> None:
    with running(fake.directory, *json_words, "run", "fake.block") as process:
        fake.wait_for(lambda fake: fake.jobs)
        process.send_signal(signal.SIGINT)
        fake.wait_for(lambda fake: "Cancel" in fake.calls)
        assert process.poll() is None
        fake.undo.set()
        done = ended(process)
    assert done.status == 130
    assert (
        done.err
        == "ktask: interrupted; job job0 (fake.block) ended CANCELLED; CANCELLED: told to; undone: [0, 5)\n"
    )
    if json_words:
        assert json.loads(done.out)["state"] == "JOB_STATE_CANCELLED"
    else:
        assert done.out == ""


def test_run_when_detached_then_its_id_and_it_goes_on(fake: FakeDaemon) -> None:
    done = ktask(fake.directory, "run", "fake.steps", "--detach")
    assert (done.status, done.out, done.err) == (0, "job0\n", "")
    assert fake.only_job().message.detached
    done = ktask(fake.directory, "run", "fake.steps", "--detach", "--json")
    assert json.loads(done.out)["id"] == "job1"


def test_watch_when_followed_then_states_results_and_the_end(fake: FakeDaemon) -> None:
    ktask(fake.directory, "run", "fake.items", "--detach")
    fake.step.release(5)
    done = ktask(fake.directory, "watch", "job0")
    assert done.status == 0
    lines = done.out.splitlines()
    assert [line for line in lines if ":" in line] == [f"{i}: n={i}" for i in range(5)]
    assert lines[0] in ("job0 RUNNING", "job0 SUCCEEDED")
    assert "job0 SUCCEEDED" in lines
    document = json.loads(ktask(fake.directory, "watch", "job0", "--json").out)
    assert document["final"] is True
    assert [one["result"]["n"] for one in document["results"]] == [0, 1, 2, 3, 4]


def test_watch_when_the_job_has_failed_then_1(fake: FakeDaemon) -> None:
    ktask(fake.directory, "run", "fake.fail")
    done = ktask(fake.directory, "watch", "job0")
    assert done.status == 1
    assert "it went wrong" in done.err


def test_cancel_when_asked_then_waits_for_the_undo(fake: FakeDaemon) -> None:
    ktask(fake.directory, "run", "fake.block", "--detach")
    with running(fake.directory, "--json", "cancel", "job0") as process:
        fake.wait_for(lambda fake: "Watch" in fake.calls)
        assert process.poll() is None
        fake.undo.set()
        done = ended(process)
    assert done.status == 0
    assert json.loads(done.out)["state"] == "JOB_STATE_CANCELLED"


def test_jobs_when_listed_then_all_pages_in_a_table_or_one_document(fake: FakeDaemon) -> None:
    for _ in range(3):
        ktask(fake.directory, "run", "fake.fail")
    done = ktask(fake.directory, "jobs")
    assert [line.split()[:3] for line in done.out.splitlines()[1:]] == [
        [f"job{i}", "DIRTY", "fake.fail"] for i in (2, 1, 0)
    ]
    document = json.loads(ktask(fake.directory, "--json", "jobs").out)
    assert [job["id"] for job in document["jobs"]] == ["job2", "job1", "job0"]


def test_show_status_and_functions_when_asked_then_words_or_one_document(fake: FakeDaemon) -> None:
    ktask(fake.directory, "run", "fake.fail")
    assert "FUNCTION_ERROR: it went wrong" in ktask(fake.directory, "show", "job0").out
    assert json.loads(ktask(fake.directory, "show", "job0", "--json").out)["id"] == "job0"
    assert "pool node0" in ktask(fake.directory, "status", "-v").out
    assert "node 0: CPUs 0-1" in ktask(fake.directory, "status").out
    assert json.loads(ktask(fake.directory, "--json", "status").out)["status"]["version"] == "0.1.0"
    assert "mem.fill" in ktask(fake.directory, "functions").out
    assert "written. The dst." in ktask(fake.directory, "functions", "file.copy").out
    assert len(json.loads(ktask(fake.directory, "--json", "functions", "file.copy").out)["functions"]) == 1


def test_mode_when_asked_or_set_then_printed_and_sent_as_given(fake: FakeDaemon) -> None:
    assert ktask(fake.directory, "mode").out == "auto\n"
    assert ktask(fake.directory, "mode", "always").out == "always\n"
    assert ktask(fake.directory, "mode", "paused", "--for", "1.5h").out.startswith("paused until 20")
    document = json.loads(ktask(fake.directory, "--json", "mode", "auto").out)
    assert document["status"]["mode"] == "MODE_AUTO"
    assert json.loads(ktask(fake.directory, "mode", "--json").out)["status"]["version"] == "0.1.0"
    sent = [(one.mode, one.duration.seconds, one.HasField("duration")) for one in fake.modes]
    assert sent == [(2, 0, False), (3, 5400, True), (1, 0, False)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_hold_when_interrupted_then_0_and_until_then_the_handles_are_good(
    fake: FakeDaemon, tmp_path: Path, number: int
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with running(fake.directory, "hold", f"one={tmp_path / 'a'}", "two=/etc/hosts") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode().split() for _ in range(2)]
        assert [name for name, _ in lines] == ["one", "two"]
        fd = fake.handoff.fd_of(lines[0][1])
        assert fd is not None
        assert os.pread(fd, 3, 0) == b"abc"
        process.send_signal(number)
        assert ended(process).status == 0
    fake.handoff.wait_until_held(0)


def test_hold_when_the_daemon_goes_then_3(fake: FakeDaemon) -> None:
    with running(fake.directory, "hold", "one=/etc/hosts", "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = b""
        while not text.rstrip().endswith(b"}\n}"):
            text += process.stdout.readline()
        assert fake.handoff.fd_of(json.loads(text)["handles"]["one"]) is not None
        fake.handoff.cut()
        done = ended(process)
    assert done.status == 3
    assert "the handles are gone" in done.err


def test_output_when_its_reader_has_left_then_no_complaint(fake: FakeDaemon) -> None:
    read, write = os.pipe()
    os.close(read)
    with running(fake.directory, "functions", stdout=write) as process:
        os.close(write)
        done = ended(process)
    assert (done.status, done.err) == (0, "")


def test_output_when_there_is_none_at_all_then_no_complaint(fake: FakeDaemon) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" functions >&- 2>&-', Path(sys.executable).parent / "ktask"],
        env=environment(fake.directory),
        check=False,
    )
    assert done.returncode == 0


def test_progress_when_on_a_terminal_then_a_bar_and_else_quiet(fake: FakeDaemon) -> None:
    fake.step.release(5)
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [Path(sys.executable).parent / "ktask", "run", "fake.steps"],
            stderr=theirs,
            stdout=subprocess.PIPE,
            check=True,
            env={**environment(fake.directory), "TERM": "xterm", "COLUMNS": "70"},
        )
        drawn = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout == b""
    assert "\r\x1b[K" in drawn
    assert drawn.endswith("fake.steps done\r\n")
    assert all(len(part) < 70 for part in drawn.split("\r\x1b[K"))


def test_help_when_asked_then_0_and_no_daemon_is_needed(tmp_path: Path) -> None:
    done = ktask(tmp_path, "--help")
    assert done.status == 0
    assert "exit status: 0 done" in done.out
    for command in (
        "run",
        "jobs",
        "show",
        "explain",
        "watch",
        "cancel",
        "status",
        "mode",
        "functions",
        "hold",
    ):
        assert command in done.out
        assert ktask(tmp_path, command, "--help").status == 0
    assert ktask(tmp_path, "--version").out.startswith("ktask 0.")


def test_command_when_there_is_none_then_the_help(tmp_path: Path) -> None:
    assert ktask(tmp_path) == ktask(tmp_path, "--help")
