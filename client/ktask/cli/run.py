"""`ktask run`."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
from collections.abc import Iterator
from typing import Any

from ktask import convert
from ktask.cli import arguments, text
from ktask.cli.arguments import UsageError, pair, unique
from ktask.cli.bar import Drawer, drawer_for
from ktask.cli.main import BAD_INPUT, DONE, FAILED, INTERRUPTED, complain
from ktask.cli.output import print_json, print_out, print_warnings
from ktask.client import open_session
from ktask.core import Draft
from ktask.errors import KtaskError, describe_failure
from ktask.results import Job, JobState
from ktask.session import Session
from ktask.source import Memory, memory
from ktask.v1 import jobs_pb2 as pb


def run(options: argparse.Namespace) -> int:
    """Run the job that the command line describes."""
    with contextlib.ExitStack() as end:
        session = open_session(options.socket)
        end.callback(session.close)
        draft = end.enter_context(_draft(options, session.function(options.function)))
        try:
            if options.detach:
                return _detach(options, session, draft)
            return _wait(options, session, draft)
        except (TypeError, ValueError) as error:
            return complain(str(error), BAD_INPUT)


def _detach(options: argparse.Namespace, session: Session, draft: Draft) -> int:
    job = session.submit(draft)
    if options.json:
        print_json(job)
    else:
        print_out(job.id)
    return DONE


def _wait(options: argparse.Namespace, session: Session, draft: Draft) -> int:
    drawer = drawer_for(sys.stderr, options.progress)
    try:
        message = session.run(draft, on_job=drawer)
    except KeyboardInterrupt:
        _clear(drawer)
        return _interrupted(options, session, draft)
    finally:
        _clear(drawer)
    if options.json:
        print_json(message)
    return _report(options, session, convert.job(message), drawer is not None)


def _report(options: argparse.Namespace, session: Session, job: Job, to_terminal: bool) -> int:
    """Say how the job ended, and what it found; warnings go to standard error and change no status."""
    print_warnings(text.list_warnings(job))
    if job.state is not JobState.SUCCEEDED:
        return complain(describe_failure(job), FAILED)
    if not options.json:
        print_out(text.format_result(job.result))
        if job.result and "items_omitted" in job.result:
            _print_items(session, job)
    if to_terminal:
        print(text.describe_success(job), file=sys.stderr)
    return DONE


def _print_items(session: Session, job: Job) -> None:
    """Print results that were too many for the job's own message."""
    for message in session.watch(id=job.id):
        for one in message.results:
            print_out(f"{one.index}: {text.format_value(convert.plain(one.result))}")


def _interrupted(options: argparse.Namespace, session: Session, draft: Draft) -> int:
    """Say what became of the job, as far as that can be known."""
    try:
        message = session.get(request_id=draft.request_id)
    except KtaskError:
        return complain("interrupted", INTERRUPTED)
    if options.json:
        print_json(message)
    job = convert.job(message)
    how = describe_failure(job) if job.state.ended else f"job {job.id} is {job.state}"
    return complain(f"interrupted; {how}", INTERRUPTED)


def _clear(drawer: Drawer | None) -> None:
    if drawer is not None:
        drawer.clear()


@contextlib.contextmanager
def _draft(options: argparse.Namespace, function: pb.Function) -> Iterator[Draft]:
    """The job that the options describe, with the memory that it wants."""
    ranges, strays = _ranges(options.range)
    given, also_sources = arguments.divide(options.arg, function)
    words, also_given = arguments.apart(
        [pair(word, "NAME=PATH") for word in [*options.sources, *strays]], function
    )
    given += also_given
    with contextlib.ExitStack() as end:
        sources: dict[str, Any] = dict(unique([*words, *also_sources], "source"))
        for name, nbytes in unique((pair(word, "NAME=SIZE") for word in options.memory), "memory").items():
            if name in sources:
                raise UsageError(f'source "{name}": given twice')
            sources[name] = end.enter_context(_memory(name, nbytes))
        yield Draft(
            function=options.function,
            arg=arguments.convert(unique(given, "argument"), function) or None,
            ranges=ranges or None,
            items=options.items,
            min_chunk=options.min_chunk,
            max_threads=options.max_threads,
            undo=not options.no_undo,
            sources=sources,
            request_id=secrets.token_hex(16),
        )


def _memory(name: str, nbytes: str) -> Memory:
    wanted = arguments.size(nbytes)
    try:
        return memory(wanted)
    except (ValueError, OSError, OverflowError) as error:
        raise UsageError(f'memory "{name}": {error}') from None


def _ranges(groups: list[list[str]]) -> tuple[list[tuple[int, ...]], list[str]]:
    """Ranges, and sources that stand behind them, as in `--range 0:10 data=PATH`."""
    ranges, strays = [], []
    for group in groups:
        for i, word in enumerate(group):
            if i and "=" in word:
                strays.append(word)
            else:
                ranges.append(arguments.job_range(word))
    return ranges, strays
