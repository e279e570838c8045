"""The demo shows what it promises, reports wrong results, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.leaks import marked_processes, wait_until_none
from tests.support.users import REPOSITORY

MARK = "KTASKD_DEMO_TEST"
SMALL = ("--size", "8M")
ROWS = ["sha256 of 256 files", "zstd -3", "search for a pattern", "crc32 of one file"]


@contextmanager
def started(directory: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A demo whose temporary files are in `directory`; it must leave nothing behind."""
    mark = uuid.uuid4().hex
    environ = {**os.environ, "TMPDIR": str(directory), MARK: mark}
    with subprocess.Popen(
        [sys.executable, *words],
        env=environ,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
    left = wait_until_none(lambda: marked_processes(MARK, mark))
    assert not left, "processes outlived the demo:\n" + "\n".join(left)
    assert list(directory.iterdir()) == []


def finished(directory: Path, *words: str) -> tuple[int, str, str]:
    """Exit status and output of an undisturbed demo."""
    with started(directory, *words) as process:
        out, err = process.communicate()
        return process.returncode, out, err


def test_demo_when_run_then_all_is_shown_and_right(reachable_dir: Path) -> None:
    status, out, err = finished(reachable_dir, "-m", "tools.demo", *SMALL)
    assert (status, err) == (0, "")
    heads = next(line for line in out.splitlines() if line.startswith("work "))
    assert heads.split() == ["work", "bytes", "one", "thread", "(s)", "ktaskd", "(s)", "gain", "check"]
    for row in ROWS:
        assert re.search(rf"^{row} +8388608 +\d+\.\d+ +\d+\.\d+ +\d+\.\d+  ok ", out, re.MULTILINE), out
    assert re.search(r"^nothing +\d+ +1\.00$", out, re.MULTILINE)
    assert re.search(r"^a job of ktaskd +\d+ +\d+\.\d+$", out, re.MULTILINE)
    assert re.search(r"^nice -n 19, a process for each CPU +\d+ +\d+\.\d+$", out, re.MULTILINE)
    assert re.search(r"^reason: +FUNCTION_ERROR$", out, re.MULTILINE)
    assert re.search(r"^undone: +\d+-\d+", out, re.MULTILINE)
    assert re.search(r"^dirty: +nothing$", out, re.MULTILINE)
    assert re.search(r"^bytes: .* 0 done and not undone, \d+ done and undone$", out, re.MULTILINE)
    assert out.endswith("all results were right\n")
    assert "\x1b" not in out


def test_demo_when_a_check_says_no_then_exit_1(reachable_dir: Path) -> None:
    code = (
        "import sys\n"
        "from tools import checks, demo\n"
        "checks.decompresses_to = lambda packed, original: False\n"
        "sys.exit(demo.main(sys.argv[1:]))\n"
    )
    status, out, err = finished(reachable_dir, "-c", code, *SMALL)
    assert (status, err) == (1, "")
    assert re.findall(r"^(.+?) {2,}.* WRONG (.*)$", out, re.MULTILINE) == [("zstd -3", "decompressed again")]
    assert out.endswith("SOMETHING WAS WRONG\n")


def test_demo_when_the_daemon_does_not_come_up_then_told_why(reachable_dir: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from tools import demo, private\n"
        "private.sys = type('', (), {'executable': '/bin/false'})\n"
        "sys.exit(demo.main(sys.argv[1:]))\n"
    )
    status, out, err = finished(reachable_dir, "-c", code, *SMALL)
    assert (status, out) == (1, "")
    assert err.startswith("demo: daemon: ended")


# A large one, so that it is not over before the signal arrives.
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_demo_when_interrupted_then_nothing_is_left(
    reachable_dir: Path, number: signal.Signals, status: int
) -> None:
    with started(reachable_dir, "-m", "tools.demo", "--size", "128M") as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("work "):
            pass
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == status, out + err
    assert "Traceback" not in err


def test_demo_when_the_reader_leaves_then_nothing_is_left(reachable_dir: Path) -> None:
    with started(reachable_dir, "-m", "tools.demo", *SMALL) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1
