"""Named points at which a test makes a worker or a pool host misbehave.

This is off and costs nothing unless the environment variable KTASKD_FAULTS names a directory
when the process starts. A fault is an empty file in it,

    NUMBER~POINT~ACTION~FUNCTION        000001~worker.mid_chunk~kill~mem.fill

and a process that passes that point with a chunk or a step of that function ("any" matches every
function) tries to rename the file. The first to succeed performs the action, so each fault happens
exactly once, in one of many processes. N files are N faults; to hit only the Nth pass, put N-1 files
with the action "pass" before it. The file is then called fired~PID~NUMBER~..., which tells the test
which process was hit.

Actions: kill (SIGKILL), segv (SIGSEGV), stop (SIGSTOP), exit0, raise (EIO), hang (sleep forever),
burn (use CPU time forever), half (at worker.half_frame), pass.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Callable, Mapping
from typing import NoReturn

VARIABLE = "KTASKD_FAULTS"
ANY = "any"

_directory = os.environ.get(VARIABLE, "")

ON = bool(_directory)
"""Whether faults are on; check it before `hit` in code that runs often."""

POINTS: frozenset[str] = frozenset(
    {
        "host.at_start",
        "host.before_fork",
        "host.after_fork",
        "worker.at_start",
        "worker.before_ack",  # a chunk or step was received, the page does not say so yet
        "worker.mid_chunk",  # after its first quantum
        "worker.after_work",  # everything is done, nothing is sent
        "worker.half_frame",  # the result is cut off; for the action "half"
        "worker.in_prepare",
        "worker.in_begin",
        "worker.in_combine",
        "worker.in_finish",
        "worker.mid_finish",  # after a quantum of a finish
        "worker.in_undo",
        "worker.mid_undo",  # after a quantum of an undo
        "worker.in_restore",
        "worker.after_step",  # a prepare, combine, finish, undo or restore is done, nothing is sent
    }
)


def hit(point: str, function: str = "") -> bool:
    """Perform the fault that a test armed for this point; True = cut the current frame in half.

    Raises:
        OSError: EIO, for the action "raise".
    """
    if not ON:
        return False
    action = _claim(_directory, point, function)
    return bool(action and ACTIONS[action]())


def _claim(directory: str, point: str, function: str) -> str:
    """Claim the first matching fault that no other process has claimed; its action, or ""."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        for name in sorted(os.listdir(directory)):
            number, _, rest = name.partition("~")
            words = rest.split("~")
            fits = number.isdigit() and words[0] == point and words[2] in (ANY, function)
            if fits and _take(directory, name):
                return words[1]
    return ""


def _take(directory: str, name: str) -> bool:
    """Whether this process was the one to rename the file."""
    try:
        os.rename(f"{directory}/{name}", f"{directory}/fired~{os.getpid()}~{name}")
    except FileNotFoundError:
        return False
    return True


def _pass() -> bool:
    return False


def _half() -> bool:
    return True


def _kill() -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return False


def _segv() -> bool:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)
    return False


def _stop() -> bool:
    os.kill(os.getpid(), signal.SIGSTOP)
    return False


def _exit0() -> NoReturn:
    os._exit(0)


def _raise() -> NoReturn:
    raise OSError(errno.EIO, "a fault that a test armed")


def _hang() -> NoReturn:
    while True:
        signal.pause()


def _burn() -> NoReturn:
    while True:
        pass


ACTIONS: Mapping[str, Callable[[], bool]] = {
    "pass": _pass,
    "half": _half,
    "kill": _kill,
    "segv": _segv,
    "stop": _stop,
    "exit0": _exit0,
    "raise": _raise,
    "hang": _hang,
    "burn": _burn,
}
