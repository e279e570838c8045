"""Opens a session: finds a daemon, or starts one, and checks that it answers."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable

from ktask.errors import DaemonNotFound, DaemonNotTrusted, KtaskError, SystemDaemonUnused
from ktask.link import embedded, locate, starting
from ktask.link.locate import Endpoint
from ktask.link.session import Session

_ANSWER_TIMEOUT_S = 90.0
"""A daemon that systemd starts at the first connection may take as long as systemd lets it. A client that
gave up earlier on a slow machine would start a second daemon. Source: systemd-system.conf(5),
DefaultTimeoutStartSec"""
_LOOK_S = 2.0
"""Between two checks that a process still listens there."""
_INSTEAD = "a daemon of your own is used instead"
_NO_ANSWER = "accepts connections, but no daemon answers"


def open_session(
    target: str | os.PathLike[str] | None = None,
    *,
    own: bool = False,
    start: bool = True,
    warn: Callable[[str], object] | None = None,
) -> Session:
    """Open a session with a daemon as `ktask.connect` describes, which takes the same arguments.

    Args:
        warn: called with the text of a warning; None = it becomes a Python warning.
    Raises:
        DaemonNotFound, DaemonNotTrusted: as `ktask.connect`.
    """
    endpoint = starting.wait_until_up(lambda: locate.named(target, os.environ))
    if endpoint is not None:
        return _answering(endpoint)
    tried, unused = [], []
    # With `own` only the embedded daemon is tried: it is where a daemon of this user would be.
    for usual in () if own else locate.usual(os.environ):
        try:
            session = _answering(usual)
        except (DaemonNotFound, DaemonNotTrusted) as error:
            tried.append(str(error))
            if locate.is_system(usual):
                unused.append(locate.with_next_step(usual, str(error)))
        else:
            return _reported(session, _in_place_of_the_system(usual), warn)
    directory = embedded.directory_of(os.environ)
    try:
        found = embedded.find_or_start(directory) if start else embedded.endpoint_in(directory)
        session = _answering(found)
    except (DaemonNotFound, DaemonNotTrusted) as error:
        steps = unused if start else [*unused, embedded.NEXT_STEP]
        raise DaemonNotFound("daemon: none answers", [*tried, str(error), *steps]) from None
    return _reported(session, [f"{text}; {_INSTEAD}: {found}" for text in unused], warn)


def _reported(session: Session, texts: list[str], warn: Callable[[str], object] | None) -> Session:
    """The session, after its warnings; closed if one of them is an error to the caller."""
    try:
        for text in texts:
            (warn or _warn)(text)
    except BaseException:
        session.close()
        raise
    return session


def _in_place_of_the_system(used: Endpoint) -> list[str]:
    """The warning, if an earlier command has started the daemon in use and there is one of the system."""
    system = locate.usual(os.environ)[-1]
    started = embedded.was_started_in(os.path.dirname(used.socket))
    if used == system or not started or not locate.is_system(system):
        return []
    try:
        silent = locate.why_silent(system)
        why = f'socket "{system}": {silent}' if silent else ""
    except DaemonNotTrusted as error:
        why = str(error)
    if why:
        return [f"{locate.with_next_step(system, why)}; {_INSTEAD}: {used}"]
    return [
        f"a daemon of your own still runs and is used, not the system's: {used}; it ends when it is "
        f"idle; --socket {os.path.dirname(system.socket)} names the system's"
    ]


def _warn(text: str) -> None:
    """Warn about the innermost line of the program that is not ktask's own."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "ktask":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, SystemDaemonUnused, stacklevel=level)


def _answering(endpoint: Endpoint) -> Session:
    """A session with a daemon that has answered one call."""
    silent = locate.why_silent(endpoint)
    if silent:
        raise DaemonNotFound(f'socket "{endpoint}": {silent}')
    try:
        session = Session(endpoint)
    except OSError as error:  # its directory was removed after the check
        raise DaemonNotFound(f'socket "{endpoint}": {error.strerror}') from error
    try:
        _wait_for_answer(session)
    except BaseException:
        session.close()
        raise
    return session


def _wait_for_answer(session: Session) -> None:
    """Wait for one answer, as long as a process is there that may give it."""
    endpoint, until_s = session.endpoint, time.monotonic() + _ANSWER_TIMEOUT_S
    while True:
        left_s = until_s - time.monotonic()
        try:
            session.functions(timeout=max(min(left_s, _LOOK_S), 0.001))
            return
        except KtaskError as error:
            if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise
            # A daemon that was just ending will never answer: check again that one listens.
            silent = locate.why_silent(endpoint)
            if silent or error.code == "UNAVAILABLE" or left_s <= _LOOK_S:
                raise DaemonNotFound(f'socket "{endpoint}": {silent or _NO_ANSWER}') from error
