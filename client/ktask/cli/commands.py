"""Commands about jobs and the daemon: jobs, show, watch, cancel, status, mode, functions, hold."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from ktask import convert
from ktask.cli import explaining, following, text
from ktask.cli.arguments import UsageError, pair, unique
from ktask.cli.bar import Drawer, drawer_for
from ktask.cli.chosen import chosen, id_of
from ktask.cli.escaping import printable
from ktask.cli.exits import DONE, FAILED, NO_DAEMON, complain, warn
from ktask.cli.output import format_document, print_json, print_out, print_warnings
from ktask.cli.overview import describe_overview
from ktask.cli.streams import DASH, input_file
from ktask.core import mode_request
from ktask.errors import describe_failure
from ktask.link.connect import open_session
from ktask.link.session import ENDED, Session
from ktask.results import JobState
from ktask.source import File, file
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

_ITEMS = ("items", "items_omitted")
"""Names in the result of a job whose items have results of their own."""


@contextlib.contextmanager
def _session(options: argparse.Namespace, *, start: bool = False) -> Iterator[Session]:
    """A session; commands that only read start no daemon."""
    session = open_session(options.socket, start=start, warn=warn)
    try:
        yield session
    finally:
        session.close()


def jobs(options: argparse.Namespace) -> int:
    """List the jobs that the options choose, or follow them; with --json all pages in one document."""
    whole = pb.ListResponse()
    if options.interval is not None and not options.watch:
        raise UsageError("--interval: needs --watch; add it or leave this out")
    with _session(options) as session:
        if options.watch:
            return following.follow(session, options)
        whole.jobs.extend(chosen(session, options))
    if options.json:
        print_json(whole)
    else:
        print_out(text.list_jobs(map(convert.job, whole.jobs)))
    return DONE


def show(options: argparse.Namespace) -> int:
    """Show one job."""
    with _session(options) as session:
        _print_job(options, session.get(id=id_of(session, options.id)))
    return DONE


def explain(options: argparse.Namespace) -> int:
    """Print the history of one job, and what limited it."""
    with _session(options) as session:
        response = session.explain(id=id_of(session, options.id))
    if options.json:
        print_json(response)
    else:
        print_out(explaining.explain(convert.job(response.job), convert.story(response.story)))
    return DONE


def cancel(options: argparse.Namespace) -> int:
    """Cancel one job and wait for its undo."""
    with _session(options) as session:
        message = session.cancel(id=id_of(session, options.id))
        if message.state not in ENDED:
            message = session.wait(id=message.id) or message
        _print_job(options, message)
    return DONE


def _print_job(options: argparse.Namespace, message: pb.Job) -> None:
    if options.json:
        print_json(message)
    else:
        print_out(text.describe_job(convert.job(message)))


def watch(options: argparse.Namespace) -> int:
    """Follow a job; with --json print the last message with all results in it."""
    drawer = drawer_for(sys.stderr, "auto")
    last, results = pb.WatchResponse(), list[pb.ItemResult]()
    state: JobState | None = None
    with _session(options) as session:
        try:
            for last in session.watch(id=id_of(session, options.id)):
                results += last.results
                if not options.json:
                    state = _print_step(last, state, drawer)
                if drawer is not None:
                    drawer(last.job)
        finally:
            if drawer is not None:
                drawer.clear()
    if options.json:
        del last.results[:]
        last.results.extend(results)
        print_json(last)
    job = convert.job(last.job)
    print_warnings(text.list_warnings(job))
    if job.state is not JobState.SUCCEEDED:
        return complain(describe_failure(job), FAILED)
    if not options.json:
        # The results of items were printed as they came.
        print_out(
            text.format_result({name: one for name, one in (job.result or {}).items() if name not in _ITEMS})
        )
    return DONE


def _print_step(message: pb.WatchResponse, before: JobState | None, drawer: Drawer | None) -> JobState:
    """Print a new state and new results in the place of the bar; return the state."""
    state = convert.job_state(message.job.state)
    lines = [] if state is before else [f"{message.job.id} {state}"]
    lines += [f"{one.index}: {text.format_value(convert.plain(one.result))}" for one in message.results]
    if lines and drawer is not None:
        drawer.clear()
    print_out("\n".join(lines))
    return state


def status(options: argparse.Namespace) -> int:
    """Show the status of the daemon on one screen, or with -v all of it."""
    with _session(options) as session:
        response = session.status()
    if options.json:
        print_json(response)
    else:
        describe = text.describe_status if options.verbose else describe_overview
        print_out(describe(convert.status(response.status)))
    return DONE


def mode(options: argparse.Namespace) -> int:
    """Print the mode, after setting it if one is given."""
    if options.mode is None and options.seconds is not None:
        raise UsageError("--for: given without a mode; put auto, always or paused before it")
    # Setting a mode needs a daemon that keeps it; reading it starts none.
    with _session(options, start=options.mode is not None) as session:
        if options.mode is None:
            response: control_pb2.GetStatusResponse | control_pb2.SetModeResponse = session.status()
        else:
            response = session.set_mode(mode_request(options.mode, options.seconds))
    if options.json:
        print_json(response)
    else:
        print_out(text.format_mode(convert.status(response.status)))
    return DONE


def functions(options: argparse.Namespace) -> int:
    """List functions, or describe one."""
    with _session(options, start=True) as session:
        response = session.functions(options.name)
    found = [convert.function(one) for one in response.functions]
    if options.name and not found:
        raise UsageError(f'function "{options.name}": unknown')
    if options.json:
        print_json(response)
    elif options.name:
        print_out("\n\n".join(map(text.describe_function, found)))
    else:
        print_out(text.list_functions(found))
    return DONE


def hold(options: argparse.Namespace) -> int:
    """Hand files over, print their handles, and keep them until interrupted."""
    paths = unique((pair(word, "NAME=PATH") for word in options.sources), "source")
    ended = _note_end()
    with contextlib.ExitStack() as end:
        session = end.enter_context(_session(options, start=True))
        files = {name: end.enter_context(_open(path)) for name, path in paths.items() if path != DASH}
        handles = {name: session.handover.handle_of(one) for name, one in files.items()}
        for name in paths.keys() - files.keys():
            (handles[name],) = session.handover.hand_over([(input_file(), 0)])
        lines = "\n".join(f"{printable(name)} {handle}" for name, handle in handles.items())
        # Raises if nobody reads the output: then nobody can use the handles either.
        print(format_document({"handles": handles}) if options.json else lines, flush=True)
        return _wait_end(ended, session.handover.fileno())


def _open(path: str) -> File:
    """Open an existing file for reading and writing, or only for reading if necessary."""
    try:
        os.stat(path)
        return file(path, "rw")
    except OSError:
        try:
            return file(path, "r")
        except ValueError as error:
            raise UsageError(str(error)) from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def _note_end() -> int:
    """A descriptor that becomes readable on SIGINT or SIGTERM; never closed."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def note(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(write, b"x")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return read


def _wait_end(ended: int, handoff: int) -> int:
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(handoff, select.POLLIN)
    ready = [fd for fd, _ in poll.poll()]
    if ended in ready:
        return DONE
    return complain("hold: the daemon has closed the connection, and the handles are gone", NO_DAEMON)
