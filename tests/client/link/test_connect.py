"""Finding a daemon, and starting one of the user's own."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import ktask
import pytest
from ktask.link import locate, trust

from tests.client.command import ktask_command
from tests.client.fake import FakeDaemon
from tests.client.processes import end, pids
from tests.support.users import NOBODY, OtherUsers, reachable_directory


def test_connect_when_named_then_a_directory_or_a_socket(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target in (fake.directory, str(fake.directory), fake.directory / "ktaskd.sock"):
        with ktask.connect(target) as client:
            assert client.socket == str(fake.directory / "ktaskd.sock")
    monkeypatch.setenv(locate.VARIABLE, str(fake.directory))
    with ktask.connect() as client, ktask.memory(1) as m:
        client.run("file.crc32", data=m)


def test_connect_when_the_name_is_relative_long_or_no_text_then_found_all_the_same(
    fake: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fake.directory)
    names = [b".", b"ktaskd.sock"]
    for name in (b"x" * 150, b"a b%20?#\xff\xfe"):
        path = os.fsencode(tmp_path) + b"/" + name
        os.symlink(os.fsencode(fake.directory), path)
        names += [path, path + b"/ktaskd.sock"]
    for target in names:
        with ktask.connect(os.fsdecode(target)) as client, ktask.memory(1) as m:
            client.run("file.crc32", data=m)
            assert client.status().pid == os.getpid()


def test_connect_when_named_and_dead_then_an_error_and_no_daemon_is_started(
    nowhere: Path, fake_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = nowhere / "ktaskd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    for target in (nowhere, dead, nowhere / "no such"):
        with pytest.raises(ktask.DaemonNotFound, match=str(target)) as caught:
            ktask.connect(target)
        assert caught.value.reason == "DAEMON_NOT_FOUND"
    monkeypatch.setenv(locate.VARIABLE, str(dead))
    with pytest.raises(ktask.DaemonNotFound, match="no process listens"):
        ktask.connect()
    with pytest.raises(ValueError, match="empty path"):
        ktask.connect("")
    assert not pids(fake_python)


def test_connect_when_another_program_listens_there_then_no_daemon(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ktask.link.connect._ANSWER_TIMEOUT_S", 0.3)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(nowhere / "ktaskd.sock"))
        listener.listen()
        with pytest.raises(ktask.DaemonNotFound, match="no daemon answers"):
            ktask.connect(nowhere)


def test_connect_when_nothing_is_named_then_the_users_daemon_before_the_systems(
    nowhere: Path, fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(fake.directory))
    with ktask.connect() as client:
        assert client.socket == str(fake.directory / "ktaskd.sock")
    own = nowhere / "ktaskd"
    own.mkdir(mode=0o700)
    with FakeDaemon(own), ktask.connect() as client:
        assert client.socket == str(own / "ktaskd.sock")


def test_connect_when_the_daemon_ends_after_it_was_looked_at_then_not_waited_for(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ktask.link.connect._ANSWER_TIMEOUT_S", 1e6)  # so that waiting never times out
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(short_dir / "ktaskd.sock"))
    listener.listen()
    look = locate.why_silent

    def why_silent(place: locate.Endpoint) -> str:
        """A process listens at the first check, and is gone right after it."""
        found = look(place)
        listener.close()
        return found

    monkeypatch.setattr(locate, "why_silent", why_silent)
    with pytest.raises(ktask.DaemonNotFound, match="no process listens there any more"):
        ktask.connect(short_dir)


# -- a system daemon that cannot be used --------------------------------------------------


def _down(system: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(system / "ktaskd.sock"))


def _not_trusted(system: Path) -> None:
    system.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "why", "step"),
    [
        (lambda system: None, "No such file", "systemctl start ktaskd.socket"),
        (_down, "no process listens", "systemctl status ktaskd.socket"),
        (_not_trusted, "mode 0777", "systemctl start ktaskd.socket"),
    ],
)
def test_connect_when_the_systems_daemon_cannot_be_used_then_never_replaced_in_silence(
    nowhere: Path,
    fake_python: Path,
    short_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    why: str,
    step: str,
) -> None:
    system = short_dir / "system"
    system.mkdir(mode=0o755)
    make(system)
    with pytest.warns(ktask.SystemDaemonUnused, match=why) as caught, ktask.connect() as client:
        assert client.socket == str(nowhere / "ktaskd" / "ktaskd.sock")
    (warning,) = caught
    assert step in str(warning.message)
    assert f"is used instead: {client.socket}" in str(warning.message)
    assert warning.filename == __file__
    with ktask.connect(own=True):
        pass  # `own` ignores the system's daemon, so nothing is warned about
    (short_dir / "again").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir / "again"))
    status, _, err = ktask_command("functions")
    assert status == 0
    assert err.startswith("ktask: warning: socket" if why != "mode 0777" else "ktask: warning: directory")
    assert err.count("\n") == 1


def test_connect_when_the_systems_daemon_refuses_then_no_other_one_is_started(
    nowhere: Path, fake_python: Path, fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refuse as a daemon does for too many connections: with an answer."""
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(fake.directory))

    def refuse(self: object, name: str = "", timeout: float = 0.0) -> None:
        raise ktask.KtaskError("too many", code="RESOURCE_EXHAUSTED", reason="QUOTA_FULL")

    monkeypatch.setattr("ktask.link.session.Session.functions", refuse)
    with pytest.raises(ktask.KtaskError, match="too many"):
        ktask.connect()
    assert not pids(fake_python)


def test_connect_when_the_daemon_of_an_earlier_command_is_used_then_reported_each_time(
    nowhere: Path, fake_python: Path, short_dir: Path
) -> None:
    system = short_dir / "system"
    system.mkdir(mode=0o755)
    for _ in "starts", "finds":
        status, _, err = ktask_command("functions")
        assert status == 0
        assert err.startswith(f'ktask: warning: socket "{system}/ktaskd.sock": No such file')
        assert f"is used instead: {nowhere}/ktaskd/ktaskd.sock" in err
        assert err.count("\n") == 1
    assert len(pids(fake_python)) == 1
    with FakeDaemon(system):
        with pytest.warns(ktask.SystemDaemonUnused, match="not the system's") as caught:
            ktask.connect().close()
        assert f"--socket {system}" in str(caught[0].message)
        with pytest.raises(ktask.SystemDaemonUnused), warnings.catch_warnings():
            warnings.simplefilter("error")
            ktask.connect()
        with ktask.connect(own=True):
            pass  # nothing is warned about


@pytest.mark.other_uid
def test_connect_when_not_in_its_group_then_the_error_says_how_to_join(run_as: OtherUsers) -> None:
    if not run_as.can_run_a_daemon():
        pytest.skip("the only interpreter of this version that other users can read is a copy")
    with reachable_directory() as place:
        system = place / "system"
        system.mkdir(mode=0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(system / "ktaskd.sock"))
            listener.listen()
            os.chown(system / "ktaskd.sock", 0, grp.getgrnam("daemon").gr_gid)
            (system / "ktaskd.sock").chmod(0o660)
            code = (
                "import warnings, ktask, ktask.link.trust\n"
                f"ktask.link.trust.SYSTEM_DIR = {str(system)!r}\n"
                "warnings.simplefilter('error')\n"
                "try:\n"
                "    ktask.connect()\n"
                "except ktask.SystemDaemonUnused as warning:\n"
                "    print(warning)\n"
                "print(ktask.connect(own=True).status().pid)\n"
            )
            done = run_as(NOBODY, code, env={"XDG_RUNTIME_DIR": str(run_as.home(NOBODY))})
    words, pid = done.stdout.splitlines()
    end(int(pid))
    assert "Permission denied" in words
    assert f"adduser {pwd.getpwuid(NOBODY).pw_name} daemon" in words
