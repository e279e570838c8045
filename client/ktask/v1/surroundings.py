"""The surroundings of a program: module path, directory, environment, locale, logging and the like.

A worker takes them on before it runs the program's own code, so that a call finds the same as in
the program. It keeps them until it ends with the job.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import locale
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from ktask.v1 import start


class SurroundingsInvalid(Exception):
    """The surroundings that a program has sent cannot be taken on; the text says why."""


def take(also: Mapping[str, str] | None = None) -> bytes:
    """Return the surroundings of this process, for `take_on` in a worker.

    Args:
        also: environment variables that calls get in addition.
    """
    try:
        directory = os.getcwd()
    except OSError:
        directory = ""
    given = {
        "path": [os.fspath(one) for one in sys.path],
        "cwd": directory,
        "environ": {**os.environ, **(also or {})},
        "umask": _umask(),
        "writes_bytecode": not sys.dont_write_bytecode,
        "locale": locale.setlocale(locale.LC_ALL),
        "authkey": bytes(multiprocessing.current_process().authkey).hex(),
        "levels": _levels(),
        "start": start.take(),
        "streams": [_stream(sys.stdout), _stream(sys.stderr)],
    }
    return json.dumps(given).encode()


def take_on(data: bytes) -> None:
    """Give this process the surroundings of another one.

    Modules of the program are found before our own. If something does not exist here, such as a
    directory that was removed, this process keeps its own.

    Raises:
        SurroundingsInvalid: the data does not come from `take`.
        StartAgain, CannotStart: this process was started in another way; it has taken on nothing.
    """
    try:
        given = json.loads(data)
        path = [str(one) for one in given["path"]]
        start.check(given["start"], given["environ"], path)
        start.note_taken_on(given["start"])
        sys.path[:] = [*path, *(one for one in sys.path if one not in path)]
        sys.dont_write_bytecode = not given["writes_bytecode"]
        _take_on_environment(given["environ"])
        if given["cwd"]:
            with contextlib.suppress(OSError):
                os.chdir(str(given["cwd"]))
        if given["umask"] is not None:
            os.umask(int(given["umask"]))
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, str(given["locale"]))
        # Proxies of a multiprocessing manager authenticate with it.
        multiprocessing.current_process().authkey = bytes.fromhex(given["authkey"])
        for name, level in given["levels"].items():
            logging.getLogger(name).setLevel(int(level))
        sys.stdout, sys.stderr = (_printing_to(fd, *given["streams"][fd - 1]) for fd in (1, 2))
    except (ValueError, KeyError, TypeError, AttributeError, LookupError) as error:
        raise SurroundingsInvalid(f"surroundings: {type(error).__name__}: {error}") from error


def _take_on_environment(given: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name not in given]:
        del os.environ[name]
    os.environ.update(given)
    if start.was_started():
        # For libraries loaded from now on; not in os.environ, since the program does not have them there.
        for name, value in start.threads(given).items():
            os.putenv(name, value)
    time.tzset()


def _printing_to(fd: int, encoding: str, errors: str) -> TextIO:
    """Return a text stream on descriptor 1 or 2, which may refer to another file than at the start."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        encoding = "utf-8"
    return open(fd, "w", buffering=1, encoding=encoding, errors=errors, closefd=False)


def _stream(stream: Any) -> tuple[str, str]:
    """Encoding of a stream, and its handling of characters that cannot be encoded."""
    return getattr(stream, "encoding", None) or "utf-8", getattr(stream, "errors", None) or "backslashreplace"


def _umask() -> int | None:
    """The umask from /proc: umask(2) returns it only by changing it for all threads."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return None


def _levels() -> dict[str, int]:
    """Levels of the loggers that have one, by name; "" is the root logger."""
    loggers = logging.Logger.manager.loggerDict.items()
    named = {name: one.level for name, one in loggers if isinstance(one, logging.Logger) and one.level}
    return {**named, "": logging.getLogger().level}
