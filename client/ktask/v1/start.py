"""How the interpreter of a program was started, so that a worker can be started the same way.

The interpreter, the C library and libraries such as OpenBLAS read some environment variables only
when they are started or loaded. A worker is forked from a process that has loaded numpy. It can take
on everything else (`surroundings`), but for these variables it has to start again: by exec, with the
program's interpreter, options and environment. After that, calls also find the packages of the
program's virtual environment, and run on the program's version of Python.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

PYTHON = "{}.{}".format(*sys.version_info)

_NAMES = frozenset({"GCONV_PATH", "LOCPATH", "FLEXIBLAS"})
_PREFIXES = (
    *("LD_", "GLIBC_", "MALLOC_", "PYTHON", "OPENSSL_"),
    *("OPENBLAS_", "GOTO_", "OMP_", "GOMP_", "KMP_", "MKL_", "BLIS_", "BLAS_", "FLEXIBLAS_"),
    *("NPY_", "NUMPY_", "GFORTRAN_", "CRC32C_"),
)
"""Prefixes of variables that the interpreter or a library reads at its start, and that a worker has
loaded before it serves a program. Sources: ld.so(8), mallopt(3), python(1), the manuals of OpenBLAS,
libgomp, MKL, BLIS, numpy and OpenSSL. A test compares them with the variables that are read when a
worker's libraries are loaded."""

_TAKEN_ON = frozenset(
    {
        *("PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONSAFEPATH"),
        *("PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHONASYNCIODEBUG"),
        *("PYTHON_HISTORY", "PYTHON_COLORS", "PYTHON_BASIC_REPL"),
        # joblib, threadpoolctl and scikit-learn set these in every program that imports them, for
        # OpenMP runtimes that a worker has not loaded before it takes them on.
        *("KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK"),
    }
)
"""Exceptions from these: what such a variable decides is taken on in another way, is read later, or is
of no use in a worker. Many programs set some of them, for example in containers, and should not have to
wait for another start."""

_THREADS = frozenset(
    {"OPENBLAS_NUM_THREADS", "OPENBLAS_DEFAULT_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"}
)
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""A worker uses one CPU, unless the program has set a number of threads."""

_TAKEN_ON_OPTIONS = frozenset({"-s", "-P", "-E", "-I", "-B"})
"""Options that affect sys.path and the writing of byte code, which are taken on in another way."""

_CUSTOM = ("sitecustomize", "usercustomize")


_PACKAGES = ("site-packages", "dist-packages")
"""Names of directories that packages are installed into."""

_LOADED_NS = time.time_ns()
"""When this process, or the one that it was forked from, began to load modules. If packages were
installed, upgraded or removed since, it may have another version of them, or lack their hooks."""


class StartAgain(BaseException):
    """The process has to start again before it can take on a program's surroundings.

    It is no Exception, so that code which handles errors of the caller's functions lets it pass.

    Attributes:
        command: the interpreter and its options.
        environ: the environment, complete.
    """

    def __init__(self, command: list[str], environ: Mapping[str, str]) -> None:
        """Store both."""
        super().__init__("the process has to start again")
        self.command, self.environ = command, dict(environ)


class CannotStart(OSError):
    """The program's interpreter cannot be run where the worker is."""


class _State:
    started = False
    """Whether this process was started for the program that it serves."""
    refused = ""
    """Why the process could not be started for it; "" = no reason against."""
    program = ""
    """The interpreter of the program whose surroundings this process has, as text."""


def note_started() -> None:
    """Note that this process was started for a program, so that it does not start again."""
    _State.started = True


def note_refused(why: str) -> None:
    """Note why this process cannot be replaced, for programs that would need that."""
    _State.refused = why


def take() -> dict[str, Any]:
    """Return how this interpreter was started, as JSON."""
    return {
        "python": PYTHON,
        "executable": _executable(),
        "prefix": os.path.realpath(sys.prefix),
        "options": _options(),
        "encoding": sys.getfilesystemencoding(),
        "custom": [_file_of(name) for name in _CUSTOM],
        "user_hooks": _user_hooks(),
    }


def check(given: Mapping[str, Any], environ: Mapping[str, str], path: Iterable[str]) -> None:
    """Check that this process was started like the program, as far as that makes a difference.

    Args:
        given: what `take` returned in the program.
        environ: the environment of the program.
        path: its sys.path.
    Raises:
        StartAgain: it was started differently, and has to be replaced.
        CannotStart: it has to be replaced but cannot; the text names both interpreters and the next step.
    """
    mine = take()
    if _State.started or not (_differs(given, mine, environ) or _has_changed(path)):
        return
    same_home = (given["prefix"], given["python"]) == (mine["prefix"], mine["python"])
    executable = str(given["executable"] or (mine["executable"] if same_home else ""))
    why = _State.refused or ("" if executable else "the program does not know the path of its interpreter")
    if why:
        raise CannotStart(
            f"interpreter: your program runs in {given['executable'] or given['prefix']} "
            f"(Python {given['python']}), the daemon in {sys.executable} (Python {PYTHON}), and a worker "
            f"cannot use the program's: {why}; run the program with an interpreter that the daemon can "
            "execute, or end this daemon, so that the program starts its own: ktask.connect(own=True)"
        )
    raise StartAgain([executable, *given["options"]], {**threads(environ), **environ})


def note_taken_on(given: Mapping[str, Any]) -> None:
    """Note whose surroundings this process has; `given` as for `check`."""
    _State.program = f"{given['executable'] or given['prefix']} (Python {given['python']})"


def interpreters() -> tuple[str, str]:
    """Return this interpreter and the program's, as text; the second is "" without a program."""
    return f"{sys.executable} (Python {PYTHON})", _State.program


def threads(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that limit the threads of libraries, unless the program has set some."""
    return {} if _THREADS & environ.keys() else dict(_ONE_THREAD)


def is_read_at_start(name: str) -> bool:
    """Whether a variable has an effect only if it is set before a worker starts."""
    return name not in _TAKEN_ON and (name.startswith(_PREFIXES) or name in _NAMES)


def was_started() -> bool:
    """Whether this process was started for the program that it serves."""
    return _State.started


def _differs(given: Mapping[str, Any], mine: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    if any(given[key] != mine[key] for key in ("python", "prefix", "encoding", "custom", "user_hooks")):
        return True
    if set(given["options"]) - _TAKEN_ON_OPTIONS != set(mine["options"]) - _TAKEN_ON_OPTIONS:
        return True
    return _read_at_start(environ) != _read_at_start(os.environ)


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in environ.items() if is_read_at_start(name)}
    return {**threads(environ), **found}


def _has_changed(path: Iterable[str]) -> bool:
    """Whether packages were installed, upgraded or removed since this process loaded some."""
    for directory in path:
        if directory.endswith(_PACKAGES):
            try:
                if os.stat(directory).st_mtime_ns >= _LOADED_NS:
                    return True
            except OSError:
                continue  # import ignores it as well
    return False


def _file_of(name: str) -> str:
    """Return the file of a loaded module; "" if it is not loaded or has none."""
    return str(getattr(sys.modules.get(name), "__file__", None) or "")


def _user_hooks() -> str:
    """Return the user's own package directory if it has files that Python runs at its start; otherwise ""."""
    directory = site.USER_SITE if site.ENABLE_USER_SITE else None
    try:
        names = os.listdir(directory) if directory else []
    except OSError:
        names = []
    return str(directory) if any(name.endswith(".pth") for name in names) else ""


def _executable() -> str:
    """Return the interpreter that multiprocessing would start; "" if there is none."""
    from multiprocessing import spawn  # only here, since the command line does not need it

    found = spawn.get_executable()
    return "" if getattr(sys, "frozen", False) or not found else os.path.abspath(os.fsdecode(found))


def _options() -> list[str]:
    """Return the options of this interpreter that multiprocessing passes on, such as -O."""
    found: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return found
