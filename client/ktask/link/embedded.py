"""A daemon of the user's own, started when there is no other, ended when idle."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from ktask.errors import DaemonNotFound
from ktask.link.locate import HANDOFF_NAME, SOCKET_NAME, Place, is_private, why_silent

IDLE_EXIT_S = 30
"""An embedded daemon that nobody uses for so long ends."""

_START_TIMEOUT_S = 30.0
_AFTER_EXIT_S = 2.0
"""A daemon that lost against another one ends before the other one listens."""
_POLL_FIRST_S, _POLL_MOST_S = 0.005, 0.1
_LOG_NAME = "ktaskd.log"
_LOCK_NAME = "start.lock"
_LOG_TAIL_BYTES = 2000

# Started in the background by a shell that ends at once: the daemon is then no
# child of the program that happens to need it first, which may wait for all of
# its children. The shell says its process id.
_SCRIPT = '"$@" >/dev/null 2>"$KTASKD_LOG" & echo $!'

# Said by systemd to the program, not to the daemon that it starts.
_NOT_INHERITED = (
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)


NEXT_STEP = "`ktask run`, or a program that connects, starts one for you; so does `ktaskd`, for good"
"""For whoever looks at a daemon where there is none."""


def place_in(directory: str) -> Place:
    """The place of a daemon in `directory`, whether there is one or not."""
    return Place(os.path.join(directory, SOCKET_NAME), os.path.join(directory, HANDOFF_NAME))


def directory_of(environ: Mapping[str, str]) -> str:
    """The runtime directory of this user's embedded daemon; need not exist."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and _is_ours(runtime):
        return os.path.join(runtime, "ktaskd")
    return f"/tmp/ktaskd-{os.geteuid()}"


def find_or_start(directory: str) -> Place:
    """The place of a daemon in `directory` that answers, started if there is none.

    Of several processes that call this at one time, one starts the daemon and
    the others wait for it.

    Raises:
        DaemonNotFound: the directory is not this user's alone, or the daemon
            does not come up; then with the end of its log.
    """
    _make_private(directory)
    place = place_in(directory)
    deadline = time.monotonic() + _START_TIMEOUT_S
    for pause_s in _pauses(deadline):
        if not why_silent(place):
            return place
        with _start_lock(directory) as locked:
            if locked:
                return _start(directory, place, deadline)
        time.sleep(pause_s)
    raise DaemonNotFound(
        f'embedded daemon: another process is starting it in "{directory}", and does not end'
    )


def _start(directory: str, place: Place, deadline: float) -> Place:
    """Start the daemon and wait until it answers. The start lock is held."""
    # Another one may have started it between the look and the lock.
    if not why_silent(place):
        return place
    pid = _launch(directory)
    with _watch_exit(pid) as has_exited:
        for pause_s in _pauses(deadline):
            if not why_silent(place):
                return place
            if has_exited(pause_s):
                break
    for pause_s in _pauses(time.monotonic() + _AFTER_EXIT_S):
        if not why_silent(place):
            return place
        time.sleep(pause_s)
    log = os.path.join(directory, _LOG_NAME)
    raise DaemonNotFound(f'embedded daemon: it does not come up in "{directory}"', [f"{log}: {_tail(log)}"])


def _launch(directory: str) -> int:
    """Start the daemon in a session of its own; its process id."""
    if not sys.executable:
        raise DaemonNotFound("embedded daemon: this interpreter does not know its own path")
    command = [sys.executable, "-m", "ktaskd", "--runtime-dir", directory]
    # Nobody else reaches it, so that even root's may run code of root's own.
    command += ["--idle-exit", str(IDLE_EXIT_S), "--own-user"]
    log = os.path.join(directory, _LOG_NAME)

    environ = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", _SCRIPT, "sh", *command],
            env={**environ, "KTASKD_LOG": log},
            # The module is found where it is installed, not where the user happens to be.
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            check=True,
        )
        return int(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise DaemonNotFound(f"embedded daemon: cannot be started: {error}") from error


@contextlib.contextmanager
def _watch_exit(pid: int) -> Iterator[_Exited]:
    """Something to ask whether a process that is not our child has ended."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        fd = -1
    try:
        yield _Exited(fd)
    finally:
        if fd >= 0:
            os.close(fd)


class _Exited:
    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def __call__(self, wait_s: float) -> bool:
        """Whether it ends within `wait_s`; True if it was gone before."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))


@contextlib.contextmanager
def _start_lock(directory: str) -> Iterator[bool]:
    """Whether this process is the one that may start the daemon now."""
    fd = os.open(
        os.path.join(directory, _LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _pauses(deadline: float) -> Iterator[float]:
    """Growing waits until the deadline; at least one."""
    pause_s = _POLL_FIRST_S
    while True:
        yield pause_s
        if time.monotonic() >= deadline:
            return
        pause_s = min(pause_s * 1.5, _POLL_MOST_S)


def _make_private(directory: str) -> None:
    """Make the directory unless it is there; raise DaemonNotFound unless it is ours alone."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise DaemonNotFound(f'embedded daemon: directory "{directory}": {error.strerror}') from error
    if not is_private(directory):
        raise DaemonNotFound(
            f'embedded daemon: directory "{directory}": wanted a directory of user {os.geteuid()} '
            "that nobody else may write, and no link"
        )


def _is_ours(directory: str) -> bool:
    try:
        found = os.stat(directory)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and os.access(directory, os.W_OK)


def _tail(path: str) -> str:
    """The end of a log, in one line."""
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
            text = log.read(_LOG_TAIL_BYTES).decode(errors="replace").strip()
    except OSError as error:
        return error.strerror or str(error)
    return text.replace("\n", " | ") or "empty"
