"""The sockets of this program that workers connect to, and what they get and send first."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import socket

from ktask.errors import KtaskError
from ktask.link.locate import VARIABLE, Endpoint, short_path
from ktask.v1 import calls as wire
from ktask.v1 import code, surroundings

_log = logging.getLogger("concurrent.futures")

_BACKLOG = 128


def listen(endpoint: Endpoint) -> tuple[str, socket.socket]:
    """A listening socket and its path, in the directory that the daemon keeps private to this user.

    Raises:
        KtaskError: the daemon is not this user's, so that directory cannot be used.
    """
    directory = os.path.join(os.path.dirname(endpoint.socket), wire.DIRECTORY)
    path = os.path.join(directory, wire.NAME_PREFIX + secrets.token_hex(4))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as short:
            listener.bind(short)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        words = (
            f'calls: socket "{path}": {error.strerror}; '
            "only a daemon of your own runs your code: ktask.connect(own=True)"
        )
        raise KtaskError(words, code="FAILED_PRECONDITION", reason="CALLS_UNREACHABLE") from error
    return path, listener


def close(path: str, listener: socket.socket) -> None:
    """Stop listening, and remove the socket."""
    listener.close()
    with contextlib.suppress(OSError):
        os.unlink(path)


def surroundings_for(endpoint: Endpoint) -> bytes:
    """The surroundings of this process for its calls; a call that uses ktask finds the same daemon."""
    return surroundings.take({VARIABLE: os.path.dirname(endpoint.socket)})


def lend_output(sock: socket.socket) -> None:
    """Send a worker that has just connected our standard output and error, so that it prints there.

    As in a pool of processes these are the descriptors 1 and 2, whatever sys.stdout is.
    """
    numbers = [number for number in (1, 2) if _is_open(number)]
    with contextlib.suppress(OSError):  # the worker has ended, which the next read finds
        socket.send_fds(sock, [wire.pack(wire.OUTPUT, 0, bytes(numbers))], numbers)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def python_error(theirs: str) -> KtaskError | None:
    """Why a worker with another version of Python cannot make the calls of this program; None if it can."""
    try:
        code.check_python(theirs)
    except code.CodeInvalid as error:
        return KtaskError(str(error), code="FAILED_PRECONDITION", reason="PYTHON_DIFFERS")
    return None


def log(payload: bytes | memoryview) -> None:
    """Handle a worker's log record as if it had been made here; never raises."""
    try:
        record = logging.makeLogRecord(pickle.loads(payload))
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:
        # A filter or handler of the program raised; in the program it would raise into the call that logs.
        _log.exception("exception handling a record that was logged in a worker")
