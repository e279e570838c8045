"""The default directory of a daemon, and that clients of the same user find it there.

Tests: ktaskd/daemon/command.py, client/ktask/link/embedded.py
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ktask.link.embedded import directory_of

from ktaskd.daemon import command as module
from tests.support.real_daemon import until
from tests.support.users import OtherUsers

UID = 60033


@pytest.fixture
def own() -> Iterator[Path]:
    """The directory of a user whose session has no runtime directory."""
    path = Path(f"/tmp/ktaskd-{UID}")
    assert not os.path.lexists(path)
    yield path
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        path.rmdir()


@pytest.mark.parametrize("base", [None, "", "relative", "{tmp}", "{tmp}/none", "/proc"])
def test_directory_when_a_user_says_nothing_then_where_clients_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 1000)
    if base is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base.format(tmp=tmp_path))
        os.chown(tmp_path, os.geteuid(), -1)
    assert str(module.default_runtime_dir()) == directory_of(os.environ)


@pytest.mark.other_uid
def test_daemon_when_a_user_has_no_runtime_directory_then_it_serves_that_users_commands(
    run_as: OtherUsers, own: Path
) -> None:
    log = run_as.home(UID) / "log"
    with log.open("w") as err:
        daemon = run_as.start(UID, [run_as.program("ktaskd"), "--selftest"], stderr=err)
    try:
        until(lambda: " ready dir=" in log.read_text() or daemon.poll() is not None, "it is ready")
        assert f" ready dir={own} " in log.read_text()
        assert oct(own.stat().st_mode & 0o777) == "0o700"
        done = run_as(UID, [run_as.program("ktask"), "status"])
        assert f", pid {daemon.pid}, since " in done.stdout, done.stderr
        assert (
            run_as(UID, [run_as.program("ktask"), "run", "selftest.noop", "--range", "0:1"]).returncode == 0
        )
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0


@pytest.mark.other_uid
def test_daemon_when_its_directory_in_tmp_is_somebodys_link_then_refused(
    run_as: OtherUsers, own: Path
) -> None:
    own.symlink_to(run_as.home(UID))
    done = run_as(UID, [run_as.program("ktaskd")])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ktaskd: runtime directory {own}: is a link, wanted a directory; remove it\n"
