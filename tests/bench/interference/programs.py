"""Programs that the rows need: two of our own in C, the others from the system."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
_TIMEOUT_S = 300.0


class Unmeasured(Exception):
    """A value cannot be measured on this machine; the text is the reason."""


@functools.cache
def compiled(name: str, directory: Path) -> Path:
    """One of the C programs next to this file, compiled into `directory`.

    Raises:
        Unmeasured: there is no compiler, or the compilation failed.
    """
    target = directory / name
    words = ["gcc", "-O2", "-Wall", "-pthread", "-o", str(target), str(HERE / f"{name}.c")]
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        raise Unmeasured("gcc: not found (apt-get install gcc libc6-dev)") from None
    if done.returncode:
        raise Unmeasured(f"gcc: {done.stderr.strip()}")
    return target


def needed(program: str, package: str) -> str:
    """Path of a program; installed from Debian's package of that name if we are root.

    The installation starts no service: nginx's own would take port 80.

    Raises:
        Unmeasured: the program is missing and cannot be installed.
    """
    path = _found(program)
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing Debian's package {package}", flush=True)
        _install(package)
        path = _found(program)
    if path is None:
        raise Unmeasured(f"{program}: not found (apt-get install {package})")
    return path


def _found(program: str) -> str | None:
    usual = os.environ.get("PATH", os.defpath)
    return shutil.which(program, path=f"{usual}:/usr/sbin:/sbin")


def _install(package: str) -> None:
    """Run apt-get install, with a PATH on which starting a service does nothing.

    Maintainer scripts start services by these programs, which they find on PATH.
    Source: deb-systemd-invoke(1p), invoke-rc.d(8)
    """
    with tempfile.TemporaryDirectory() as directory:
        for name in ("invoke-rc.d", "deb-systemd-invoke"):
            path = Path(directory, name)
            path.write_text("#!/bin/sh\nexit 0\n")
            path.chmod(0o755)
        environ = {
            **os.environ,
            "PATH": f"{directory}:{os.environ.get('PATH', os.defpath)}",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", *words], check=False, env=environ, capture_output=True, timeout=_TIMEOUT_S
            )
