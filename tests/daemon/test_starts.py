"""Starts on a machine that lacks something: one line says what to do, or the daemon works without it.

Tests: ktaskd/daemon/preflight.py, ktaskd/daemon/command.py
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ktask.v1 import jobs_pb2 as pb

from ktaskd.daemon.preflight import why_not_start
from ktaskd.host.root import matching
from tests.support.real_daemon import KTASKD, connected, running, spin, state_name
from tests.support.users import OtherUsers

WAIT_S = 60.0
_FULL = 'mkdir -p "$3"; mount -t tmpfs -o mode=755,nr_inodes={} none "$3"; exec "$@"'
EMPTY = "ktaskd: --runtime-dir: got an empty path, wanted a directory\n"


def start(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own; "$@" is the daemon's command."""
    command = ["unshare", "-m", "sh", "-ec", script, "sh", KTASKD, "--runtime-dir", *words]
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


@pytest.mark.other_uid
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ('mount -t tmpfs none /proc; exec "$@"', "/proc: no process file system is there; mount it"),
        ('mount -t tmpfs none /dev; exec "$@"', "/dev/null, /dev/urandom: missing; mount /dev"),
        ('ulimit -n 16; exec "$@"', "open files: the limit is 16 (RLIMIT_NOFILE), and a daemon on"),
        ('ulimit -n 32; exec "$@"', "raise it (ulimit -n 4096, or LimitNOFILE= in the unit)"),
        ('mkdir -p "$3"; mount -t tmpfs -o ro,mode=755 none "$3"; exec "$@"', "Read-only file system"),
        (
            'mkdir -p "$3"; mount -t tmpfs -o mode=755,nr_inodes=1 none "$3"; exec "$@"',
            "No space left on device",
        ),
        (
            'mkdir -p "$3"; mount -t tmpfs -o mode=755,nr_inodes=3 none "$3"; exec "$@"',
            "No space left on device",
        ),
        (
            'mkdir -p "$3"; mount -t tmpfs -o mode=755,nr_inodes=4 none "$3"; exec "$@"',
            "No space left on device",
        ),
        (
            'mkdir -p "$3"; mount -t tmpfs -o mode=755,nr_inodes=5 none "$3"; exec "$@"',
            "No space left on device",
        ),
    ],
)
def test_start_when_something_is_missing_then_one_line_with_the_next_step(
    tmp_path: Path, script: str, says: str
) -> None:
    done = start(script, tmp_path / "run")
    ours = [line for line in done.stderr.splitlines() if not line.startswith("E")]  # gRPC's own
    assert done.returncode == 1, done.stderr
    assert len(ours) == 1, done.stderr
    assert ours[0].startswith("ktaskd: ")
    assert says in ours[0]


@pytest.mark.other_uid
def test_start_when_no_thread_can_be_made_then_refused_instead_of_waiting(
    run_as: OtherUsers, reachable_dir: Path
) -> None:
    uid = 60019
    words = ["prlimit", "--nproc=3", str(run_as.program("ktaskd")), "--runtime-dir"]
    done = run_as(uid, [*words, str(run_as.home(uid) / "run")])
    assert done.returncode == 1
    assert "threads: only " in done.stderr
    assert "RLIMIT_NPROC is 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_start_when_the_directory_has_no_name_then_refused(tmp_path: Path) -> None:
    command = [str(KTASKD), "--runtime-dir", ""]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "ktaskd: --runtime-dir: got an empty path, wanted a directory\n",
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.other_uid
@pytest.mark.parametrize(
    "script",
    [
        'mount -t tmpfs none /sys; exec "$@"',
        'mount -t tmpfs -o mode=000 none /sys; exec setpriv --bounding-set -all --inh-caps -all "$@"',
        'mount --bind /dev/null /etc/passwd; mount --bind /dev/null /etc/group; exec "$@"',
        'mount -t proc -o hidepid=2 none /proc; exec "$@"',
        'mount --bind /dev/null /proc/meminfo; mount -t tmpfs none /proc/sys; exec "$@"',
    ],
)
def test_start_when_less_is_missing_then_it_works_without(tmp_path: Path, script: str) -> None:
    def popen(command: list[Any], **options: Any) -> subprocess.Popen[bytes]:
        words = ["unshare", "-m", "sh", "-ec", script, "sh", *map(str, command)]
        return subprocess.Popen(words, **options)

    with running(tmp_path / "run", popen=popen) as daemon, connected(daemon.socket) as stubs:
        assert state_name(stubs.jobs.Run(pb.RunRequest(spec=spin(4, 1))).job) == "SUCCEEDED"
        assert "Traceback" not in daemon.log()


@pytest.mark.other_uid
def test_sensors_when_their_directory_may_not_be_entered_then_none(tmp_path: Path) -> None:
    inside = tmp_path / "class" / "thermal"
    inside.mkdir(parents=True)
    (inside / "thermal_zone0").touch()
    assert matching(inside, "thermal_zone*") == [inside / "thermal_zone0"]
    tmp_path.chmod(0)
    before = os.geteuid()
    try:
        os.seteuid(60019)
        assert matching(inside, "thermal_zone*") == []
    finally:
        os.seteuid(before)
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda top: None, ""),
        (lambda top: (top / "dev/null").unlink(), "/dev/null: missing"),
        (lambda top: (top / "proc/self/stat").unlink(), "no process file system"),
    ],
)
def test_preflight_when_a_machine_is_looked_at_then_what_it_lacks(
    tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    for name in ("dev/null", "dev/urandom", "proc/self/stat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    change(tmp_path)
    why = why_not_start(1, tmp_path)
    assert bool(why) is bool(says)
    assert says in why
    assert "open files" in why_not_start(10**9, tmp_path) or says
