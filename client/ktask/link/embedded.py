"""A daemon of the user's own: started when there is no other, ends when idle."""

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
from ktask.link.locate import HANDOFF_NAME, SOCKET_NAME, Endpoint, is_private, why_silent

IDLE_EXIT_S = 30
"""An embedded daemon ends after this long without use."""

_START_TIMEOUT_S = 30.0
_AFTER_EXIT_S = 2.0
"""A daemon that lost the race against another one may end before that one listens."""
_POLL_FIRST_S, _POLL_MOST_S = 0.005, 0.1
_LOG_NAME = "ktaskd.log"
_LOCK_NAME = "start.lock"
_LOG_TAIL_BYTES = 2000

# A shell starts the daemon in the background and ends at once. So the daemon is not
# a child of the program that needs it first, which may wait for all of its
# children. The shell prints the daemon's process id.
_SCRIPT = '"$@" >/dev/null 2>"$KTASKD_LOG" & echo $!'

# systemd set these for the program, not for the daemon that the program starts.
_NOT_INHERITED = (
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)


NEXT_STEP = "`ktask run`, or a program that connects, starts one for you; `ktaskd` starts one that stays"
"""For a command that only looks at a daemon and finds none."""


def endpoint_in(directory: str) -> Endpoint:
    """The endpoint that a daemon in `directory` has, whether one runs or not."""
    return Endpoint(os.path.join(directory, SOCKET_NAME), os.path.join(directory, HANDOFF_NAME))


def directory_of(environ: Mapping[str, str]) -> str:
    """The runtime directory of this user's embedded daemon; it need not exist."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and _is_ours(runtime):
        return os.path.join(runtime, "ktaskd")
    return f"/tmp/ktaskd-{os.geteuid()}"


def was_started_in(directory: str) -> bool:
    """Whether a client has ever started a daemon in this directory."""
    return os.path.lexists(os.path.join(directory, _LOCK_NAME))


def find_or_start(directory: str) -> Endpoint:
    """The endpoint of a daemon that answers in `directory`; starts one if there is none.

    If several processes call this at the same time, one starts the daemon and the
    others wait for it.

    Raises:
        DaemonNotFound: other users can write the directory, or the daemon does not
            start; then the end of its log is included.
    """
    _make_private(directory)
    endpoint = endpoint_in(directory)
    deadline = time.monotonic() + _START_TIMEOUT_S
    for pause_s in _pauses(deadline):
        if not why_silent(endpoint):
            return endpoint
        with _start_lock(directory) as locked:
            if locked:
                return _start(directory, endpoint, deadline)
        time.sleep(pause_s)
    raise DaemonNotFound(
        f'embedded daemon: another process has been starting it in "{directory}" for too long'
    )


def _start(directory: str, endpoint: Endpoint, deadline: float) -> Endpoint:
    """Start the daemon and wait until it answers. The caller holds the start lock."""
    # Another process may have started it between the check and the lock.
    if not why_silent(endpoint):
        return endpoint
    pid = _launch(directory)
    with _watch_exit(pid) as has_exited:
        for pause_s in _pauses(deadline):
            if not why_silent(endpoint):
                return endpoint
            if has_exited(pause_s):
                break
    for pause_s in _pauses(time.monotonic() + _AFTER_EXIT_S):
        if not why_silent(endpoint):
            return endpoint
        time.sleep(pause_s)
    log = os.path.join(directory, _LOG_NAME)
    raise DaemonNotFound(f'embedded daemon: it does not start in "{directory}"', [f"{log}: {_tail(log)}"])


def _launch(directory: str) -> int:
    """Start the daemon in a session of its own; return its process id."""
    if not sys.executable:
        raise DaemonNotFound("embedded daemon: this interpreter does not know its own path")
    command = [sys.executable, "-m", "ktaskd", "--runtime-dir", directory]
    # No other user can reach it, so even root's daemon may run code of root's own.
    command += ["--idle-exit", str(IDLE_EXIT_S), "--own-user"]
    log = os.path.join(directory, _LOG_NAME)

    environ = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", _SCRIPT, "sh", *command],
            env={**environ, "KTASKD_LOG": log},
            # Find the installed module, not one in the current directory.
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
    """Yield a callable that reports whether a process, not a child of ours, has ended."""
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
        """Whether the process ends within `wait_s`; True if it has ended already."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))


@contextlib.contextmanager
def _start_lock(directory: str) -> Iterator[bool]:
    """Yield whether this process may start the daemon now; no other one may inside."""
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
    """Growing pauses until the deadline; at least one."""
    pause_s = _POLL_FIRST_S
    while True:
        yield pause_s
        if time.monotonic() >= deadline:
            return
        pause_s = min(pause_s * 1.5, _POLL_MOST_S)


def _make_private(directory: str) -> None:
    """Make the directory if it is missing; raise DaemonNotFound if other users can write it."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise DaemonNotFound(f'embedded daemon: directory "{directory}": {error.strerror}') from error
    if not is_private(directory):
        raise DaemonNotFound(
            f'embedded daemon: directory "{directory}": it must belong to user {os.geteuid()}, '
            "be writable for nobody else and be no link"
        )


def _is_ours(directory: str) -> bool:
    try:
        found = os.stat(directory)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and os.access(directory, os.W_OK)


def _tail(path: str) -> str:
    """The end of a log, joined to one line."""
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
            text = log.read(_LOG_TAIL_BYTES).decode(errors="replace").strip()
    except OSError as error:
        return error.strerror or str(error)
    return text.replace("\n", " | ") or "empty"
