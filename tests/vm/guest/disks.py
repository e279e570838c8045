"""Files of an ordinary user at home, on other file systems, in sandboxes and containers."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from .kit import PATIENCE_S, check, prop, require, run
from .work import CONTENT

HOME = Path("/home/alice")
MOUNTS = Path("/mnt")
CRC = f"{zlib.crc32(CONTENT):08x}"
WORK = ("/usr/lib/ktaskd/bin/python", "-B", "/vm/guest/work.py")
AS_ALICE = ("runuser", "-u", "alice", "--")

AT_HOME = """
set -e
cd
cp /srv/content content
ktask --json run file.crc32 data=content
ktask run file.copy src=content dst=copy
cmp content copy
ktask run file.compress src=content dst=content.zst
ktask manifest content copy >list
ktask verify list
rm content copy content.zst list
"""


def _user() -> None:
    """Make user alice, who may use the service, and a file that she can read."""
    if subprocess.run(["id", "alice"], check=False, capture_output=True).returncode:
        run("useradd", "-m", "-G", "ktask", "alice")
    Path("/srv/content").write_bytes(CONTENT)


def _work_in(place: Path, *files: Path, before: Sequence[str] = AS_ALICE) -> None:
    """Let alice work in a new directory there, and read other files."""
    said = run(*before, *WORK, str(place), *map(str, files), timeout=2 * PATIENCE_S)
    require(said.split() == [CRC] * (1 + len(files)), f"{place}: {said}")


def _type_of(path: Path) -> str:
    return run("stat", "-f", "-c", "%T", str(path)).strip()


@contextlib.contextmanager
def _mounted(*words: str, at: Path, owner: str = "alice") -> Iterator[Path]:
    """Mount a file system whose root belongs to a user; unmount it at the end."""
    at.mkdir(exist_ok=True)
    run("mount", *words, str(at))
    try:
        run("chown", owner, str(at))
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False)


@check
def machine_when_booted_then_its_root_is_a_disk() -> str:
    """Both services have their own mount namespaces, in which the same mounts have other ids."""
    kind = _type_of(Path("/"))
    require(kind == "ext2/ext3" and Path("/sys/dev/block/254:0").exists(), f"the root is on {kind}")
    _user()
    own = os.readlink("/proc/self/ns/mnt")
    for unit in ("ktaskd.service", "ktaskd-helpers.service"):
        pid = prop(unit, "MainPID")
        require(os.readlink(f"/proc/{pid}/ns/mnt") != own, f"{unit}: in the namespace of the machine")
    return f"/ on {kind}, of /dev/vda"


@check
def user_when_files_are_at_home_then_functions_work() -> str:
    """Files have mode 0600 in a directory that only alice can enter; the service does not see homes."""
    _user()
    HOME.chmod(0o700)
    _work_in(HOME / "work", Path("/srv/content"))
    said = run(*AS_ALICE, "env", f"HOME={HOME}", "sh", "-c", f"umask 077; {AT_HOME}", timeout=2 * PATIENCE_S)
    require(str(int(CRC, 16)) in said, said)
    return f"checksum, copy, compress, decompress, manifest, verify, allocate, punch; crc32 {CRC}"


@check
def user_when_files_are_on_xfs_then_functions_work() -> str:
    """The files are on a disk of their own."""
    _user()
    run("mkfs.xfs", "-q", "-f", "/dev/vdb")
    with _mounted("/dev/vdb", at=MOUNTS / "xfs") as place:
        _work_in(place / "work")
        return _type_of(place)


@check
def user_when_files_are_on_btrfs_then_functions_work_in_subvolumes_too() -> str:
    """A subvolume has a device number that is in no table of mounts."""
    _user()
    run("mkfs.btrfs", "-q", "-f", "/dev/vdc")
    with _mounted("/dev/vdc", at=MOUNTS / "btrfs") as place:
        run("btrfs", "subvolume", "create", str(place / "sub"))
        run("chown", "alice", str(place / "sub"))
        require((place / "sub").stat().st_dev != place.stat().st_dev, "the subvolume has the same device")
        _work_in(place / "work")
        _work_in(place / "sub/work")
        with _mounted("-o", "subvol=sub", "/dev/vdc", at=MOUNTS / "sub") as sub:
            _work_in(sub / "work")
        return f"{_type_of(place)}, and a subvolume, inside and mounted"


@check
def user_when_files_are_on_other_mounts_then_functions_work() -> str:
    """Mount an overlay, a bind mount and a tmpfs while the service runs."""
    _user()
    layers = [Path("/srv/layers", name) for name in ("lower", "upper", "work")]
    for layer in layers:
        layer.mkdir(parents=True, exist_ok=True)
    options = ",".join(
        f"{name}dir={path}" for name, path in zip(("lower", "upper", "work"), layers, strict=True)
    )
    (layers[0] / "below").write_bytes(CONTENT)
    with _mounted("-t", "overlay", "-o", options, "overlay", at=MOUNTS / "overlay") as place:
        _work_in(place / "work", place / "below")
    with _mounted("--bind", str(layers[1]), at=MOUNTS / "bind") as place:
        _work_in(place / "work")
    with _mounted("-t", "tmpfs", "tmpfs", at=MOUNTS / "tmpfs") as place:
        _work_in(place / "work")
    return "overlay, bind mount, tmpfs"


@check
def client_when_in_a_sandboxed_unit_then_functions_work() -> str:
    """Use PrivateTmp= and ProtectSystem=strict with the system's manager and the user's."""
    _user()
    (HOME / "content").write_bytes(CONTENT)
    uid = pwd.getpwnam("alice").pw_uid
    strict = ("-p", "PrivateTmp=yes", "-p", "ProtectSystem=strict")
    common = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", *strict)
    system = (*common, "-p", "User=alice", "-p", f"ReadWritePaths={HOME}")
    _work_in(Path("/tmp/work"), HOME / "content", before=(*system, "--"))
    _work_in(HOME / "work", before=(*system, "--"))
    run("systemctl", "start", f"user@{uid}.service")
    try:
        as_alice = ("runuser", "-u", "alice", "--", "env", f"XDG_RUNTIME_DIR=/run/user/{uid}")
        bus = f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus"
        # A user's manager can do that only in a user namespace.
        more = ("--user", "-p", "PrivateUsers=yes", "-p", f"ReadWritePaths={HOME}", "--")
        mine = (*as_alice, bus, *common, *more)
        inside = run(*mine, "readlink", "/proc/self/ns/mnt").strip()
        require(inside != os.readlink("/proc/self/ns/mnt"), f"the unit has no namespace of its own: {inside}")
        _work_in(HOME / "work", before=mine)
    finally:
        run("systemctl", "stop", f"user@{uid}.service")
    return "system's manager: /tmp and home; user's manager: home"


CONTAINER = """
set -e
mount -t tmpfs tmpfs /mnt
cd /mnt
mkdir -p usr root memory /home/alice/upper /home/alice/inner
for link in bin sbin lib lib64; do ln -s usr/$link $link; done
for place in proc sys dev run etc srv home vm; do mkdir $place; mount --rbind /$place $place; done
mount -t overlay -o lowerdir=/usr,upperdir=/home/alice/upper,workdir=/home/alice/inner,userxattr overlay usr
cp /srv/content memory/file
cp /srv/content usr/own
exec chroot . "$@"
"""


@check
def client_when_in_a_container_then_functions_work() -> str:
    """The container has its own namespaces; its root is a tmpfs and its /usr an overlay."""
    _user()
    (HOME / "content").write_bytes(CONTENT)
    Path("/usr/local/content").write_bytes(CONTENT)
    switch = Path("/proc/sys/kernel/unprivileged_userns_clone")
    if switch.exists():
        switch.write_text("1")
    unshared = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork")
    names = ("/memory/file", "/usr/own", "/usr/local/content", "/srv/content", f"{HOME}/content")
    before = (*AS_ALICE, *unshared, "sh", "-c", CONTAINER, "sh")
    _work_in(Path("/root/work"), *map(Path, names), before=before)
    return "a tmpfs, an overlay's own and unchanged files, and files of the machine"


@check
def user_when_files_are_on_fuse_then_refused_in_plain_words() -> str:
    """The service sends no request to the server (statfs is request 17)."""
    _user()
    log, place = Path("/srv/fuse.log"), MOUNTS / "fuse"
    place.mkdir(exist_ok=True)
    run("modprobe", "fuse")
    words = ["/usr/bin/python3", "/vm/silent_fuse.py", str(place), str(log)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            said = run("ktask", "run", "file.crc32", f"data={place}/file", user="alice", ok=False)
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)
            server.kill()
    require("FUSE and network file systems are refused" in said and "/dev/shm" in said, said)
    require("17" not in log.read_text().split(), f"asked: {log.read_text().split()}")
    return said.strip()
