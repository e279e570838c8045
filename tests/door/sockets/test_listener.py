"""The runtime directory: one owner, right modes from the start, nothing left behind."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ktaskd.door.sockets.listener import DirectoryBusy, ListenError, RuntimeDir, adopt, open_listeners


@pytest.fixture
def place(reachable_dir: Path) -> Path:
    return reachable_dir / "run"


@pytest.fixture
def runtime(place: Path) -> Iterator[RuntimeDir]:
    claimed = RuntimeDir.claim(place)
    yield claimed
    claimed.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def stale_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(os.fspath(path))


def test_claim_makes_the_directories_with_their_modes(place: Path) -> None:
    before = os.umask(0o077)
    try:
        runtime = RuntimeDir.claim(place, mode=0o755)
    finally:
        os.umask(before)
    assert (mode_of(place), mode_of(place / "inner")) == (0o755, 0o700)
    assert runtime.inner_path == place / "inner" / "grpc.sock"
    assert (place / "ktaskd.lock").read_text() == f"{os.getpid()}\n"
    runtime.close()
    runtime.close()
    assert list(place.iterdir()) == []


def test_an_inner_directory_that_was_open_is_closed_to_others(place: Path) -> None:
    (place / "inner").mkdir(parents=True)
    (place / "inner").chmod(0o777)
    RuntimeDir.claim(place).close()
    (place / "inner").mkdir()
    (place / "inner").chmod(0o777)
    runtime = RuntimeDir.claim(place)
    assert mode_of(place / "inner") == 0o700
    runtime.close()


def test_a_second_daemon_is_told_who_is_there(runtime: RuntimeDir, place: Path) -> None:
    with pytest.raises(DirectoryBusy, match=f"{place}.*pid {os.getpid()}") as caught:
        RuntimeDir.claim(place)
    assert caught.value.pid == os.getpid()
    assert (place / "inner").is_dir()


def test_a_second_process_is_told_too_and_the_first_goes_on(runtime: RuntimeDir, place: Path) -> None:
    listeners = open_listeners(runtime, mode=0o600)
    code = "import sys; from ktaskd.door.sockets.listener import RuntimeDir; RuntimeDir.claim(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=False)
    assert f"pid {os.getpid()}" in done.stderr
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(os.fspath(place / "ktaskd.sock"))
    listeners.close()


def test_a_lock_that_its_owner_removed_is_not_taken_for_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another daemon ends between our open and our lock."""
    first = RuntimeDir.claim(place)
    flock = fcntl.flock

    def late_flock(fd: int, operation: int) -> None:
        first.close()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    second = RuntimeDir.claim(place)
    monkeypatch.undo()
    assert (place / "ktaskd.lock").exists()
    with pytest.raises(DirectoryBusy):
        RuntimeDir.claim(place)
    second.close()


def test_sockets_have_type_mode_and_group(runtime: RuntimeDir, place: Path) -> None:
    listeners = open_listeners(runtime, mode=0o660, gid=os.getegid(), environ={})
    assert (listeners.relay.type, listeners.handoff.type) == (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
    for name in ("ktaskd.sock", "handoff.sock"):
        assert mode_of(place / name) == 0o660
        assert (place / name).stat().st_gid == os.getegid()
    assert not listeners.adopted
    assert not os.get_inheritable(listeners.relay.fileno())
    listeners.close()
    runtime.close()
    assert list(place.iterdir()) == []


def test_nobody_can_connect_before_the_mode_is_set(
    runtime: RuntimeDir, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    chmod = Path.chmod

    def try_first(path: Path, mode: int) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            refused.append(client.connect_ex(os.fspath(path)) != 0)
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", try_first)
    runtime.listen("ktaskd.sock", mode=0o600).close()
    assert refused == [True]


@pytest.mark.other_uid
def test_the_mode_decides_who_connects(
    runtime: RuntimeDir, place: Path, run_as: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({os.fspath(place / 'ktaskd.sock')!r})"
    for mode, gid, allowed in (
        (0o600, -1, False),
        (0o660, -1, False),
        (0o660, 4711, True),
        (0o666, -1, True),
    ):
        with runtime.listen("ktaskd.sock", mode=mode, gid=gid):
            done = run_as(4711, code)
        assert (done.returncode == 0) is allowed, done.stderr
        assert allowed or "PermissionError" in done.stderr


def test_stale_sockets_are_replaced(place: Path) -> None:
    (place / "inner").mkdir(parents=True)
    for name in ("ktaskd.sock", "handoff.sock", "inner/grpc.sock"):
        stale_socket(place / name)
    runtime = RuntimeDir.claim(place)
    assert not runtime.inner_path.exists()
    listeners = open_listeners(runtime, mode=0o600, environ={})
    for kind, name in ((socket.SOCK_STREAM, "ktaskd.sock"), (socket.SOCK_SEQPACKET, "handoff.sock")):
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(os.fspath(place / name))
    listeners.close()
    runtime.close()


@pytest.mark.parametrize("name", ["ktaskd.sock", "handoff.sock"])
def test_another_file_in_the_way_is_left_alone(runtime: RuntimeDir, place: Path, name: str) -> None:
    (place / name).write_text("precious")
    with pytest.raises(ListenError, match="is no socket"):
        open_listeners(runtime, mode=0o600, environ={})
    assert (place / name).read_text() == "precious"


def test_a_path_that_another_took_meanwhile_is_not_removed(runtime: RuntimeDir, place: Path) -> None:
    runtime.listen("ktaskd.sock", mode=0o600).close()
    (place / "ktaskd.sock").unlink()
    (place / "ktaskd.sock").write_text("other")
    runtime.close()
    assert (place / "ktaskd.sock").read_text() == "other"


def test_a_path_that_is_too_long_is_refused_with_its_length(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="107"):
        RuntimeDir.claim(tmp_path / ("x" * 108))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda path: path.write_text("file"), "is no directory"),
        (lambda path: (path.mkdir(), path.chmod(0o777)), "lets other users replace"),
        (lambda path: (path.mkdir(), (path / "inner").symlink_to("/tmp")), "wanted a directory"),
        (lambda path: (path.mkdir(), (path / "ktaskd.lock").symlink_to("/etc/passwd")), "symbolic link"),
        (lambda path: path.symlink_to("/nonexistent/x"), "exists|No such file"),
    ],
)
def test_a_directory_that_others_may_have_prepared_is_refused(
    place: Path, prepare: Callable[[Path], object], says: str
) -> None:
    prepare(place)
    with pytest.raises(ListenError, match=says):
        RuntimeDir.claim(place)


@pytest.mark.other_uid
def test_a_directory_of_another_user_is_refused(place: Path) -> None:
    place.mkdir()
    os.chown(place, 4711, 4711)
    with pytest.raises(ListenError, match="belongs to uid 4711"):
        RuntimeDir.claim(place)


ADOPT = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
os.environ["LISTEN_PID"] = str(os.getpid())
from ktaskd.door.sockets.listener import ListenError, RuntimeDir, open_listeners
runtime = RuntimeDir.claim({place!r})
try:
    listeners = open_listeners(runtime, mode=0o600)
except ListenError as error:
    print("ListenError:", error)
else:
    print(sorted(listeners.adopted))
    print(listeners.relay.fileno(), listeners.handoff.fileno())
    print([os.get_inheritable(sock.fileno()) for sock in (listeners.relay, listeners.handoff)])
    print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
    listeners.close()
runtime.close()
print([fd for fd in range(3, 10) if os.path.lexists(f"/proc/self/fd/{{fd}}")])
"""


def run_with_fds(place: Path, fds: list[int], names: str) -> list[str]:
    """Start a process as a service manager does: descriptors from 3 on."""
    code = ADOPT.format(path=sys.path, place=os.fspath(place))
    moves = "import fcntl, os\n" + "".join(
        f"os.dup2({fd}, {100 + i}, inheritable=False)\n" for i, fd in enumerate(fds)
    )
    moves += "".join(f"os.dup2({100 + i}, {3 + i})\n" for i in range(len(fds)))
    moves += f"os.closerange({3 + len(fds)}, 200)\n"
    moves += f"os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {code!r}])\n"
    environ = os.environ | {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names}
    done = subprocess.run(
        [sys.executable, "-c", moves], pass_fds=fds, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def passed(reachable_dir: Path) -> Iterator[dict[str, socket.socket]]:
    kinds = {"stream": socket.SOCK_STREAM, "packet": socket.SOCK_SEQPACKET, "datagram": socket.SOCK_DGRAM}
    sockets = {name: socket.socket(socket.AF_UNIX, kind) for name, kind in kinds.items()}
    sockets["silent"] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sockets["tcp"] = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for name in ("stream", "packet"):
        sockets[name].bind(os.fspath(reachable_dir / name))
        sockets[name].listen()
    yield sockets
    for sock in sockets.values():
        sock.close()


def test_sockets_are_adopted_by_their_type_in_any_order(
    place: Path, passed: dict[str, socket.socket]
) -> None:
    out = run_with_fds(place, [passed["packet"].fileno(), passed["stream"].fileno()], "a:b")
    assert out == ["['handoff.sock', 'ktaskd.sock']", "4 3", "[False, False]", "[]", "[]"]
    assert list(place.iterdir()) == []


def test_what_was_not_passed_is_made(place: Path, passed: dict[str, socket.socket]) -> None:
    out = run_with_fds(place, [passed["stream"].fileno()], "ktaskd.socket")
    assert out[0] == "['ktaskd.sock']"


@pytest.mark.parametrize("wrong", ["datagram", "silent", "tcp", "twice"])
def test_anything_else_is_refused_and_closed(
    place: Path, passed: dict[str, socket.socket], wrong: str
) -> None:
    other = passed["stream" if wrong == "twice" else wrong]
    fds = [passed["stream"].fileno(), os.dup(other.fileno()), passed["packet"].fileno()]
    try:
        out = run_with_fds(place, fds, "good:bad:good")
    finally:
        os.close(fds[1])
    assert out[0].startswith('ListenError: adopting sockets: descriptor 4 ("bad") of LISTEN_FDS: ')
    assert out[1] == "[]"


def test_variables_meant_for_another_process_are_taken_away_and_not_used() -> None:
    environ = {"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "HOME": "/"}
    assert adopt(environ) == {}
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("count", ["-1", "x", "65", "99999999999999999999"])
def test_a_senseless_count_is_refused(count: str) -> None:
    with pytest.raises(ListenError, match="LISTEN_FDS"):
        adopt({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})
