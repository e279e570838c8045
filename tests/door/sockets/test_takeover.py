"""Root's daemon takes over the directory of the workers' user."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest

from ktaskd.door.sockets.listener import DirectoryBusy, ListenError, RuntimeDir
from ktaskd.door.sockets.takeover import take_over
from ktaskd.host.root import HostRoot
from ktaskd.host.sockets.listening import listens
from tests.support.real_daemon import running, write_config

OWNER = 60031
STRANGER = 60032


@pytest.fixture
def place(reachable_dir: Path) -> Path:
    """A directory like the one that the package makes."""
    path = reachable_dir / "run"
    path.mkdir(mode=0o755)
    os.chown(path, OWNER, OWNER)
    return path


def owner_of(path: Path) -> int:
    return os.lstat(path).st_uid


@pytest.mark.other_uid
def test_directory_when_it_is_the_workers_users_then_taken_with_nothing_that_was_left(place: Path) -> None:
    victim = place.parent / "victim"
    victim.write_text("precious\n")
    os.link(victim, place / "ktaskd.lock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(place / "ktaskd.sock"))
    (place / "inner").mkdir(mode=0o700)
    os.chown(place / "inner", OWNER, OWNER)
    place.chmod(0o775)
    take_over(place, OWNER, HostRoot())
    assert (owner_of(place), stat.S_IMODE(place.stat().st_mode)) == (0, 0o755)
    assert owner_of(place / "inner") == 0
    assert sorted(path.name for path in place.iterdir()) == ["inner"]
    RuntimeDir.claim(place).close()
    assert victim.read_text() == "precious\n"


@pytest.mark.other_uid
def test_directory_when_a_daemon_is_there_then_busy_and_left(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(DirectoryBusy):
            take_over(place, OWNER, HostRoot())
    finally:
        os.close(fd)
    assert owner_of(place) == OWNER


@pytest.mark.other_uid
@pytest.mark.parametrize(
    ("name", "kind"), [("ktaskd.sock", socket.SOCK_STREAM), ("handoff.sock", socket.SOCK_SEQPACKET)]
)
def test_directory_when_the_service_manager_listens_there_then_refused_and_left(
    place: Path, name: str, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(os.fspath(place / name))
        assert not listens(HostRoot(), place / name)
        sock.listen()
        assert listens(HostRoot(), place / name)
        with pytest.raises(
            ListenError, match=f"{name}: the service manager listens there; start the daemon with it"
        ):
            take_over(place, OWNER, HostRoot())
    assert (owner_of(place), (place / name).exists()) == (OWNER, True)


@pytest.mark.other_uid
def test_directory_when_it_is_of_somebody_else_or_a_link_then_left(place: Path) -> None:
    link = place.parent / "link"
    link.symlink_to(place)
    take_over(link, OWNER, HostRoot())
    take_over(place, STRANGER, HostRoot())
    take_over(place.parent / "none", OWNER, HostRoot())
    assert owner_of(place) == OWNER
    with pytest.raises(ListenError, match=f"belongs to uid {OWNER}"):
        RuntimeDir.claim(place)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Num Path\n0: 00000002 00000000 00010000 0001 01 5 /run/x\n", True),
        ("Num Path\n0: 00000002 00000000 00000000 0001 03 5 /run/x\n", False),
        ("Num Path\n0: 00000002 00000000 00010000 0001 01     5 /run/x y\n", False),
        ("Num Path\n0: 00000002 00000000 00010000 0001 01 5\n", False),
        ("", False),
    ],
)
def test_listens_when_the_kernels_table_is_read_then_by_flag_and_path(
    tmp_path: Path, text: str, wanted: bool
) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/unix").write_text(text)
    assert listens(HostRoot(tmp_path), Path("/run/x")) is wanted
    assert not listens(HostRoot(tmp_path / "none"), Path("/run/x"))


@pytest.mark.slow
@pytest.mark.other_uid
def test_daemon_when_root_starts_it_in_the_workers_users_directory_then_it_serves(
    reachable_dir: Path,
) -> None:
    place = reachable_dir / "run"
    place.mkdir()
    os.chown(place, 65534, 65534)
    config = write_config(reachable_dir / "c", workers={"user": "nobody"}, sockets={"mode": "0666"})
    with running(place, "--config", config):
        assert owner_of(place) == 0
