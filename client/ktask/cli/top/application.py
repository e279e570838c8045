"""Runs the view: one thread waits for the daemon's messages, others make calls, this one draws."""

from __future__ import annotations

import argparse
import pwd
import threading
import time
from collections import deque

from ktask import convert
from ktask.cli import explaining
from ktask.cli.exits import DONE, FAILED, complain, warn
from ktask.cli.top.keys import names_of
from ktask.cli.top.model import (
    Action,
    Cancel,
    Event,
    Explain,
    Key,
    Lost,
    Message,
    Note,
    Quit,
    SetMode,
    State,
    Story,
    reduce,
)
from ktask.cli.top.screen import lines_of
from ktask.cli.top.terminal import Terminal
from ktask.core import mode_request
from ktask.errors import KtaskError
from ktask.link.connect import open_session
from ktask.link.session import Session
from ktask.v1 import control_pb2

MOST_JOBS = 200
_RETRY_S = 1.0
_PASSING = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNKNOWN", "INTERNAL", "CANCELLED"})
"""Statuses of a cut stream that may be opened again."""


def top(options: argparse.Namespace) -> int:
    """Show the view until the user ends it; return the exit status."""
    session = open_session(options.socket, start=False, warn=warn)
    try:
        with Terminal() as terminal:
            failure = _View(session, terminal, options.interval).run()
    except KeyboardInterrupt as interrupt:
        # Ctrl-C is a normal end; Terminated is derived from it.
        if type(interrupt) is not KeyboardInterrupt:
            raise
        return DONE
    finally:
        session.close()
    return complain(failure, FAILED) if failure else DONE


class _View:
    def __init__(self, session: Session, terminal: Terminal, interval_s: float) -> None:
        self._session = session
        self._terminal = terminal
        self._request = control_pb2.WatchStatusRequest(max_jobs=MOST_JOBS)
        self._request.min_interval.FromMilliseconds(int(interval_s * 1000))
        self._events: deque[Event] = deque()
        self._newest: Message | None = None
        self._failure = ""
        self._over = threading.Event()
        self._busy = threading.Lock()
        self._users: dict[int, str] = {}

    def run(self) -> str:
        """Draw until the user ends the view; return why it cannot go on, or ""."""
        threading.Thread(target=self._follow, name="ktask-top", daemon=True).start()
        state, rest = State(self._terminal.size()), b""
        try:
            while not self._failure:
                self._terminal.draw(lines_of(state, plain=self._terminal.plain))
                data = self._terminal.wait()
                if data is None:
                    break
                names, rest = names_of(rest + data)
                for event in [*self._taken(), *map(Key, names), self._terminal.size()]:
                    state, action = reduce(state, event)
                    if isinstance(action, Quit):
                        return ""
                    if action is not None:
                        self._start(action)
        finally:
            self._over.set()
        return self._failure

    def _taken(self) -> list[Event]:
        """The events that have come from other threads."""
        events: list[Event] = []
        while self._events:
            events.append(self._events.popleft())
        newest, self._newest = self._newest, None
        return [*events, newest] if newest is not None else events

    def _post(self, event: Event) -> None:
        if isinstance(event, Message):
            self._newest = event  # an older one is of no use
        else:
            self._events.append(event)
        self._terminal.wake()

    def _follow(self) -> None:
        """Read the stream, and open it again whenever it is cut."""
        while not self._over.is_set():
            why = "the daemon has ended"
            try:
                with self._session.watch_status(self._request) as messages:
                    for message in messages:
                        self._post(self._message(message))
            except KtaskError as error:
                if error.code not in _PASSING:
                    self._failure = str(error)
                    self._terminal.wake()
                    return
                why = str(error)
            self._post(Lost(why))
            self._over.wait(_RETRY_S)

    def _message(self, message: control_pb2.WatchStatusResponse) -> Message:
        present = convert.present(message)
        for uid in {job.owner.uid for job in present.jobs} - self._users.keys():
            self._users[uid] = _name_of(uid)
        return Message(present, time.monotonic(), dict(self._users))

    def _start(self, action: Action) -> None:
        """Have another thread make a call, unless one is being made."""
        if not self._busy.acquire(blocking=False):
            self._post(Note("the daemon has not answered the key before; press it again"))
            return
        threading.Thread(target=self._make, args=(action,), name="ktask-top-call", daemon=True).start()

    def _make(self, action: Action) -> None:
        try:
            self._post(_answer(self._session, action))
        except KtaskError as error:
            self._post(Note(_refused(action, error)))
        finally:
            self._busy.release()


def _answer(session: Session, action: Action) -> Event:
    match action:
        case Cancel():
            state = convert.job_state(session.cancel(id=action.id).state)
            return Note(f"job {action.id[:8]}: asked to stop, it is {state.lower()}")
        case Explain():
            return Story(text_about(session, action.id))
        case SetMode():
            session.set_mode(mode_request(action.mode, None))
            return Note(f"mode: {action.mode}")
        case Quit():
            return Note("")


def text_about(session: Session, job_id: str) -> str:
    """The text of `ktask explain`."""
    response = session.explain(id=job_id)
    return explaining.explain(convert.job(response.job), convert.story(response.story))


def _refused(action: Action, error: KtaskError) -> str:
    if isinstance(action, SetMode) and error.code == "PERMISSION_DENIED":
        return f"not allowed: {error}"
    return str(error)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
