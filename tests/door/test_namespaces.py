"""Files from mounts that are not in our mount table: of sandboxes, containers, and detached ones.

Tests: ktaskd/door/handoff/vet.py, ktaskd/host/files/mounts.py
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ktaskd.door.handoff.vet import Sender, find_file_system, vet
from ktaskd.host.files import mounts
from ktaskd.host.sockets.unixsock import receive
from ktaskd.model.errors import FdUnsuitable
from ktaskd.model.source import SourceKind

FUSE_SERVER = Path(__file__).with_name("silent_fuse.py")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
GONE = "gone"
"""A word of a recipe: detach the mount after the file was opened."""

CLIENT = """
import os, socket, subprocess, sys
sock = socket.socket(fileno=int(sys.argv[1]))
done = subprocess.run(["sh", "-ec", sys.argv[2]], capture_output=True, text=True)
if done.returncode:
    sock.send(done.stderr.encode() or b"failed")
else:
    fd = os.open(sys.argv[3], os.O_RDONLY)
    if sys.argv[4]:
        subprocess.run(["umount", "-l", sys.argv[4]], check=True)
    socket.send_fds(sock, [b"opened"], [fd])
sock.recv(1)
"""


@contextmanager
def client(
    recipe: str, place: Path, *, detach: bool = False, users: bool = False
) -> Iterator[tuple[int, int]]:
    """The descriptor of a file that a client opened in a mount namespace of its own, and its pid.

    Args:
        recipe: shell commands, run there in the directory `place`, which mount something at
            `place/m` that has a file `file`.
        detach: whether the client detaches that mount after it has opened the file.
        users: whether it is in a user namespace of its own, too, as those are who are not root.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare, to mount")
    (place / "m").mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path, gone = str(place / "m/file"), str(place / "m") if detach else ""
    words = [sys.executable, "-c", CLIENT, str(theirs.fileno()), recipe, path, gone]
    unshared = ["unshare", "-m", *(["--user", "--map-root-user"] if users else []), *words]
    environ = {**os.environ, "PATH": PATH}
    # Our end is closed first, which ends the client.
    inherited = [theirs.fileno()]
    with subprocess.Popen(unshared, cwd=place, pass_fds=inherited, env=environ) as process, ours:
        theirs.close()
        message = receive(ours, 100)
        with message.fds as fds:
            if not len(fds):
                pytest.skip(f"cannot be mounted here: {message.data.decode(errors='replace')}")
            (fd,) = fds
            yield fd, process.pid


def disk(kind: str, then: str = "echo 12345 >m/file") -> str:
    """A file system on a file that is a disk."""
    return f"truncate -s 400M disk; mkfs.{kind} disk; mount -o loop disk m; {then}"


LAYERS = (
    "mkdir -p d/l d/u d/w; echo 12345 >d/l/file; "
    "mount -t overlay -o lowerdir=d/l,upperdir=d/u,workdir=d/w o m"
)
RECIPES = {
    "tmpfs": ("mount -t tmpfs t m; echo 12345 >m/file", "tmpfs", SourceKind.MEMORY),
    "bind": ("mkdir b; echo 12345 >b/file; mount --bind b m", "", SourceKind.FILE),
    "overlay": (LAYERS, "overlay", SourceKind.FILE),
    "overlay, copied up": (f"{LAYERS}; touch m/file", "overlay", SourceKind.FILE),
    "overlay on tmpfs": (f"mkdir d; mount -t tmpfs t d; {LAYERS}", "overlay", SourceKind.FILE),
    "overlay on two": (
        "mkdir -p l t; echo 12345 >l/file; mount -t tmpfs t t; mkdir t/u t/w; "
        "mount -t overlay -o lowerdir=l,upperdir=t/u,workdir=t/w o m",
        "overlay",
        SourceKind.FILE,
    ),
    "ext4": (disk("ext4"), "ext4", SourceKind.FILE),
    "xfs": (disk("xfs"), "xfs", SourceKind.FILE),
    "btrfs": (disk("btrfs"), "btrfs", SourceKind.FILE),
    "vfat": (disk("vfat"), "vfat", SourceKind.FILE),
    "btrfs subvolume": (
        disk(
            "btrfs",
            "btrfs subvolume create m/s; echo 12345 >m/s/file; umount m; mount -o loop,subvol=s disk m",
        ),
        "btrfs",
        SourceKind.FILE,
    ),
}


DATA_LAYERS = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 16)
"""Whether an overlay of a user may have the data of a file in another layer than its attributes."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory in which a client mounts, on a file system that can have overlays."""
    return tmp_path


@pytest.mark.parametrize("detach", [False, True], ids=["mounted", "detached"])
@pytest.mark.parametrize("name", RECIPES)
def test_file_when_mounted_in_the_clients_namespace_only_then_it_passes(
    place: Path, name: str, detach: bool
) -> None:
    recipe, file_system, kind = RECIPES[name]
    with client(recipe, place, detach=detach) as (fd, pid):
        assert mounts.MountTables().type_of(fd) is None, "a table of ours has it"
        if name == "overlay on tmpfs" and detach and DATA_LAYERS:
            with pytest.raises(FdUnsuitable, match="the daemon cannot see"):
                vet(fd, own_offset=False, sender=Sender(pid))
            return
        facts = vet(fd, own_offset=False, sender=Sender(pid))
        assert (facts.kind, facts.size, os.pread(fd, 10, 0)) == (kind, 6, b"12345\n")
        if file_system:
            assert facts.file_system == file_system


def test_path_when_found_through_another_namespace_then_looked_at_without_a_table(place: Path) -> None:
    """As with /proc/PID/root; the descriptor is an O_PATH one."""
    with client("mount -t tmpfs t m; echo 1 >m/file", place) as (fd, _):
        path = os.open(f"/proc/self/fd/{fd}", os.O_PATH)
        try:
            assert find_file_system(path, "path") == "tmpfs"
        finally:
            os.close(path)


VET = """
import sys
from ktaskd.door.handoff.vet import vet
print(vet(0, own_offset=False).file_system)
"""


def test_file_of_the_machine_when_the_daemon_has_a_namespace_of_its_own_then_it_passes(
    tmp_path: Path,
) -> None:
    """A namespace as systemd makes it for a unit: its mounts are copies, with other ids."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare")
    (tmp_path / "file").write_bytes(b"12345")
    with (tmp_path / "file").open("rb") as file:
        expected = vet(file.fileno(), own_offset=False).file_system
        words = ["unshare", "-m", "--propagation", "slave", sys.executable, "-c", VET]
        done = subprocess.run(words, stdin=file, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@contextmanager
def fuse(recipe: str, place: Path, device: str = "", *, users: bool = False) -> Iterator[tuple[int, Path]]:
    """A file whose FUSE server is in the client's namespace, and the log of its requests."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no FUSE here")
    log = place / "log"
    serve = f'{sys.executable} {FUSE_SERVER} "$S" {log} {device} >served 2>&1 </dev/null & echo $! >pid; '
    until = "until grep -q mounted served; do kill -0 $(cat pid); done; "
    with client(recipe.replace("SERVE;", serve + until), place, users=users) as (fd, _):
        try:
            yield fd, log
        finally:
            os.kill(int((place / "pid").read_text()), signal.SIGKILL)


def requests(log: Path) -> list[str]:
    return log.read_text().split()


def test_fuse_when_mounted_in_the_clients_namespace_then_refused_without_asking_its_server(
    place: Path,
) -> None:
    with fuse("S=m; SERVE;", place) as (fd, log):
        before = requests(log)
        with pytest.raises(FdUnsuitable, match="FUSE and network file systems are refused"):
            vet(fd, own_offset=False)
        assert requests(log) == before


def test_fuse_when_on_a_block_device_then_refused_without_asking_it(place: Path) -> None:
    attach = "truncate -s 1M disk; D=$(losetup -f --show disk); S=m; SERVE; losetup -d $D"
    with fuse(attach, place, "$D") as (fd, log):
        before = requests(log)
        with pytest.raises(FdUnsuitable, match="FUSE and network file systems are refused"):
            vet(fd, own_offset=False)
        assert requests(log) == before


@pytest.mark.parametrize("users", [False, True], ids=["root", "user"])
def test_overlay_when_above_a_server_of_the_clients_then_refused_without_asking_it(
    place: Path, users: bool
) -> None:
    """A client may mount both in a user namespace; a worker that read the file would hang."""
    over = "mkdir s l u w; S=s; SERVE; mount -t overlay -o lowerdir=s:l,upperdir=u,workdir=w o m"
    with fuse(over, place, users=users) as (fd, log):
        before = requests(log)
        with pytest.raises(FdUnsuitable, match="above a file system that the daemon cannot see"):
            vet(fd, own_offset=False)
        assert requests(log) == before


META = """
import os
open("l/file", "w").truncate(9)
os.setxattr("l/file", "user.overlay.metacopy", b"")
os.setxattr("l/file", "user.overlay.redirect", b"/file")
"""


def test_overlay_when_its_data_are_at_a_server_of_the_clients_then_refused_without_asking_it(
    place: Path,
) -> None:
    """The attributes are those of a local file."""
    over = (
        f"mkdir s l; mount -t tmpfs l l; {sys.executable} -c '{META}'; S=s; SERVE; "
        "mount -t overlay -o userxattr,lowerdir=l::s o m"
    )
    with fuse(over, place, users=True) as (fd, log):
        before = requests(log)
        with pytest.raises(FdUnsuitable, match="above a file system that the daemon cannot see"):
            vet(fd, own_offset=False)
        assert requests(log) == before


def test_overlay_when_of_a_user_on_a_disk_then_it_passes(place: Path) -> None:
    """A setup as in rootless containers."""
    with client(LAYERS.replace("-o ", "-o userxattr,"), place, users=True) as (fd, pid):
        facts = vet(fd, own_offset=False, sender=Sender(pid))
        assert (facts.file_system, os.pread(fd, 10, 0)) == ("overlay", b"12345\n")


def test_fuse_when_mounted_on_the_machine_then_refused_by_its_name(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs root and FUSE")
    (tmp_path / "m").mkdir()
    words = [sys.executable, str(FUSE_SERVER), str(tmp_path / "m")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            server.stdout.readline()
            fd = os.open(tmp_path / "m/file", os.O_RDONLY)
            with pytest.raises(FdUnsuitable, match=r'is on "fuse\.silent"; FUSE and network file systems'):
                vet(fd, own_offset=False)
        finally:
            server.kill()
            server.wait()
            subprocess.run(["umount", "-l", str(tmp_path / "m")], check=False)
    with suppress(OSError):  # ENOTCONN: its server is gone
        os.close(fd)
