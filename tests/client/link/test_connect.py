"""Where the client looks for a daemon, and how it starts one of its own.

Tests: client/ktask/link/locate.py, client/ktask/link/embedded.py
"""

from __future__ import annotations

import contextlib
import grp
import io
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ktask
import pytest
from ktask.cli.main import main
from ktask.link import embedded, locate, trust

from tests.client.fake import FakeDaemon
from tests.support.users import NOBODY, OtherUsers, reachable_directory

WAIT_S = 30.0


@pytest.fixture
def nowhere(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that names no daemon and in which there is none; the runtime directory."""
    runtime = short_dir / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(short_dir / "system"))
    return runtime


def program(directory: Path, name: str, text: str) -> str:
    """An executable script."""
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def fake_python(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An interpreter whose `-m ktaskd` is the fake daemon; a line in the file for each start."""
    starts = short_dir / "starts"
    starts.touch()
    code = (
        "import fcntl, os, pathlib, signal, sys\n"
        "from tests.client.fake import FakeDaemon\n"
        "args = sys.argv[1:]\n"
        "open(os.environ['STARTS'], 'a').write(f'{os.getpid()} {args} {os.getppid()} {os.getsid(0)}\\n')\n"
        "directory = pathlib.Path(args[3])\n"
        "lock = open(directory / 'lock', 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "with FakeDaemon(directory):\n"
        "    signal.sigwait([signal.SIGTERM])\n"
    )
    script = f'#!/bin/sh\ncd "{Path.cwd()}"\nexec "{sys.executable}" -c "$FAKE_CODE" "$@"\n'
    monkeypatch.setenv("FAKE_CODE", code)
    monkeypatch.setenv("STARTS", str(starts))
    monkeypatch.setattr(sys, "executable", program(short_dir, "python", script))
    yield starts
    for pid in pids(starts):
        end(pid)


def pids(starts: Path) -> list[int]:
    return [int(line.split()[0]) for line in starts.read_text().splitlines()]


def end(pid: int) -> None:
    """End a process that is not our child, and see it gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    signal.pidfd_send_signal(fd, signal.SIGTERM)
    deadline = time.monotonic() + WAIT_S
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.close(fd)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


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
    with pytest.raises(ktask.DaemonNotFound, match="nobody listens"):
        ktask.connect()
    with pytest.raises(ValueError, match="empty path"):
        ktask.connect("")
    assert not pids(fake_python)


def test_connect_when_somebody_else_listens_there_then_no_daemon(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ktask.client._ANSWER_TIMEOUT_S", 0.3)
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
        # No child of ours, and in a session of its own.
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
    """One that was started by hand, while ours was on its way and lost the lock."""
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
    with pytest.raises(ktask.DaemonNotFound, match="nobody else may write"):
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
def test_directory_when_somebody_elses_then_not_private(short_dir: Path) -> None:
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


def test_connect_when_the_daemon_ends_after_it_was_looked_at_then_not_waited_for(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ktask.client._ANSWER_TIMEOUT_S", 1e6)  # else it would be given up some time
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(short_dir / "ktaskd.sock"))
    listener.listen()
    look = locate.why_silent

    def why_silent(place: locate.Place) -> str:
        """Somebody is there at the first look, and gone right after it."""
        found = look(place)
        listener.close()
        return found

    monkeypatch.setattr(locate, "why_silent", why_silent)
    with pytest.raises(ktask.DaemonNotFound, match="nobody listens there any more"):
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
        (_down, "nobody listens", "systemctl status ktaskd.socket"),
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
        pass  # which asks for no other daemon than this user's, so there is nothing to warn of
    (short_dir / "again").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir / "again"))
    status, _, err = ktask_command("functions")
    assert status == 0
    assert err.startswith("ktask: warning: socket" if why != "mode 0777" else "ktask: warning: directory")
    assert err.count("\n") == 1


def test_connect_when_the_systems_daemon_refuses_then_no_other_one_is_started(
    nowhere: Path, fake_python: Path, fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does where a user has too many connections: with an answer."""
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(fake.directory))

    def refuse(self: object, name: str = "", timeout: float = 0.0) -> None:
        raise ktask.KtaskError("too many", code="RESOURCE_EXHAUSTED", reason="QUOTA_FULL")

    monkeypatch.setattr("ktask.link.session.Session.functions", refuse)
    with pytest.raises(ktask.KtaskError, match="too many"):
        ktask.connect()
    assert not pids(fake_python)


@pytest.mark.other_uid
def test_connect_when_not_in_its_group_then_told_how_to_get_in(run_as: OtherUsers) -> None:
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


# -- commands that only look -----------------------------------------------------------------


def ktask_command(*words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command line of this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    "words", [("status",), ("jobs",), ("show", "x"), ("watch", "x"), ("cancel", "x"), ("mode",)]
)
def test_command_when_it_only_looks_then_it_starts_nothing_and_exits_3(
    nowhere: Path, fake_python: Path, words: tuple[str, ...]
) -> None:
    status, out, err = ktask_command(*words)
    assert (status, out) == (3, "")
    assert err.startswith("ktask: daemon: none answers")
    assert "`ktask run`" in err
    assert not pids(fake_python)
    assert not (nowhere / "ktaskd").exists()


def test_command_when_it_only_looks_then_it_finds_the_one_that_is_there(
    nowhere: Path, fake_python: Path
) -> None:
    assert ktask_command("functions")[0] == 0  # starts one
    assert ktask_command("status")[0] == 0
    assert len(pids(fake_python)) == 1


def test_command_when_it_sets_a_mode_then_a_daemon_is_started_that_keeps_it(
    nowhere: Path, fake_python: Path
) -> None:
    ktask_command("mode", "paused")
    assert len(pids(fake_python)) == 1


def test_connect_when_it_is_not_to_start_one_then_an_error(nowhere: Path, fake_python: Path) -> None:
    with pytest.raises(ktask.DaemonNotFound, match="none answers"):
        ktask.connect(start=False)
    assert not pids(fake_python)
