"""Starting a daemon of the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ktask
import pytest
from ktask.link import embedded, locate

from tests.client.fake import FakeDaemon
from tests.client.processes import WAIT_S, pids, program


def test_connect_when_there_is_none_then_one_is_started_and_found_again(
    nowhere: Path, fake_python: Path
) -> None:
    with ktask.connect() as client, ktask.connect() as again:
        assert client.socket == again.socket == str(nowhere / "ktaskd" / "ktaskd.sock")
        assert client.status().pid == again.status().pid
        (line,) = fake_python.read_text().splitlines()
        pid = client.status().pid
        assert line.startswith(
            f"{pid} ['-m', 'ktaskd', '--runtime-dir', '{nowhere}/ktaskd', '--idle-exit', '30', '--own-user']"
        )
        # The daemon is no child of ours, and in a session of its own.
        assert os.getsid(pid) != os.getsid(0)
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        assert Path(f"/proc/{pid}/cwd").exists()
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert (nowhere / "ktaskd").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_connect_when_many_programs_need_one_then_only_one_is_started(
    nowhere: Path, fake_python: Path
) -> None:
    code = f"import sys, ktask; sys.executable = {sys.executable!r}; print(ktask.connect().status().pid)"
    code = f"import ktask.link.trust; ktask.link.trust.SYSTEM_DIR = {str(nowhere / 'no')!r}; " + code
    interpreter = str(Path(sys.prefix) / "bin" / "python")
    programs = [
        subprocess.Popen([interpreter, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(5)
    ]
    said = [one.communicate(timeout=WAIT_S)[0].strip() for one in programs]
    assert len(set(said)) == 1
    assert said[0] == str(pids(fake_python)[0])
    assert len(pids(fake_python)) == 1


def test_connect_when_the_daemon_that_starts_ends_then_an_error_with_its_log(
    nowhere: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_AFTER_EXIT_S", 0.1)
    monkeypatch.setattr(sys, "executable", program(short_dir, "p", "#!/bin/sh\necho it broke >&2\nexit 1\n"))
    with pytest.raises(ktask.DaemonNotFound, match="it broke") as caught:
        ktask.connect()
    assert len(caught.value.tried) == 3


def test_connect_when_another_daemon_wins_then_that_one(
    nowhere: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon started by hand came up first, so ours lost the lock."""
    own = nowhere / "ktaskd"
    own.mkdir(mode=0o700)
    started = short_dir / "started"
    script = f"#!/bin/sh\ntouch {started}\nexit 1\n"
    monkeypatch.setattr(sys, "executable", program(short_dir, "p", script))
    plain, winner = embedded._launch, []

    def launch(directory: str) -> int:
        pid = plain(directory)
        winner.append(FakeDaemon(own))
        return pid

    monkeypatch.setattr(embedded, "_launch", launch)
    with ktask.connect() as client:
        assert client.status().pid == os.getpid()
    winner.pop().stop()


def test_connect_when_its_directory_is_not_ours_alone_then_never_used(
    nowhere: Path, short_dir: Path, fake_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = nowhere / "ktaskd"
    own.mkdir()
    own.chmod(0o777)
    with pytest.raises(ktask.DaemonNotFound, match="writable for nobody else"):
        ktask.connect()
    own.rmdir()
    own.symlink_to(short_dir)
    with pytest.raises(ktask.DaemonNotFound, match="no link"):
        ktask.connect()
    own.unlink()
    own.write_text("")
    with pytest.raises(ktask.DaemonNotFound):
        ktask.connect()
    assert not pids(fake_python)


@pytest.mark.other_uid
def test_directory_when_another_users_then_not_private(short_dir: Path) -> None:
    own = short_dir / "d"
    own.mkdir(mode=0o700)
    assert locate.is_private(str(own))
    os.chown(own, 65534, -1)
    assert not locate.is_private(str(own))


def test_directory_when_there_is_no_runtime_directory_then_in_tmp(short_dir: Path) -> None:
    uid = os.geteuid()
    assert embedded.directory_of({}) == f"/tmp/ktaskd-{uid}"
    assert embedded.directory_of({"XDG_RUNTIME_DIR": "relative"}) == f"/tmp/ktaskd-{uid}"
    assert embedded.directory_of({"XDG_RUNTIME_DIR": "/no/such"}) == f"/tmp/ktaskd-{uid}"
    assert embedded.directory_of({"XDG_RUNTIME_DIR": str(short_dir)}) == f"{short_dir}/ktaskd"
