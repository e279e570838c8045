"""`ktask run`."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ktask import convert
from ktask.cli import arguments, text
from ktask.cli.arguments import UsageError, pair, unique
from ktask.cli.bar import Drawer, drawer_for
from ktask.cli.escaping import escaped
from ktask.cli.exits import BAD_INPUT, DONE, FAILED, complain, print_error, status_of_interrupt, warn
from ktask.cli.output import (
    as_document,
    print_document,
    print_json,
    print_out,
    print_warnings,
    whole_numbers,
)
from ktask.cli.streams import Output, Streams
from ktask.core import Draft
from ktask.errors import KtaskError, describe_failure
from ktask.link.connect import open_session
from ktask.link.session import Session
from ktask.results import Job, JobState
from ktask.source import Memory, memory
from ktask.splitting import item_results, split
from ktask.v1 import jobs_pb2 as pb


@dataclass(frozen=True, slots=True)
class _Order:
    """The job that the command line describes.

    Args:
        names: names of the items, as they were given.
        output: standard output, if a "-" stands for it as a target; otherwise None.
    """

    draft: Draft
    names: tuple[str, ...]
    output: Output | None


def run(options: argparse.Namespace) -> int:
    """Run the job that the command line describes."""
    with contextlib.ExitStack() as end:
        session = open_session(options.socket, warn=warn)
        end.callback(session.close)
        order = _order(options, session.function(options.function), end)
        try:
            if options.detach:
                return _detach(options, session, order.draft)
            return _wait_all(options, session, order)
        except (TypeError, ValueError) as error:
            return complain(str(error), BAD_INPUT)


def _detach(options: argparse.Namespace, session: Session, draft: Draft) -> int:
    job = session.submit(draft)
    if options.json:
        print_json(job)
    else:
        print_out(job.id)
    return DONE


def _wait_all(options: argparse.Namespace, session: Session, order: _Order) -> int:
    """Run the job, or several jobs over many items; stop after the first that does not succeed."""
    documents: list[dict[str, Any]] = []
    status = DONE
    for draft, names in _jobs(order):
        drawer = drawer_for(sys.stderr, options.progress)
        try:
            message = session.run(draft, on_job=drawer)
        except KeyboardInterrupt as interrupt:
            _clear(drawer)
            return _interrupted(options, session, draft, status_of_interrupt(interrupt))
        except KtaskError as error:
            raise _named(error, names) from None
        finally:
            _clear(drawer)
        if options.json:
            documents.append(_document(session, message, names))
        status = _report(options, session, convert.job(message), names, order.output)
        if drawer is not None and status == DONE:
            print_error(text.describe_success(convert.job(message)))
        if status != DONE:
            break
    if options.json:
        print_document(documents[0] if len(documents) == 1 else {"jobs": documents})
    return status


def _named(error: KtaskError, names: Sequence[str]) -> KtaskError:
    """The same error, naming the item at fault."""
    number = re.fullmatch(r"spec\.items\[(\d+)\]", error.field)
    if number is None or int(number[1]) >= len(names):
        return error
    message = f"{error.message} (items[{number[1]}] is {names[int(number[1])]})"
    return KtaskError(
        message, code=error.code, reason=error.reason, field=error.field, metadata=error.metadata
    )


def _jobs(order: _Order) -> Iterator[tuple[Draft, Sequence[str]]]:
    """The jobs with the names of their items; a request_id of its own finds each after an interrupt."""
    first = 0
    for draft in split(order.draft):
        count = len(tuple(draft.items or ()))
        yield replace(draft, request_id=os.urandom(16).hex()), order.names[first : first + count]
        first += count


def _document(session: Session, message: pb.Job, names: Sequence[str]) -> dict[str, Any]:
    """The job as JSON, with the results of its items, each with the name of the item."""
    document = as_document(message)
    if names and message.state == pb.JOB_STATE_SUCCEEDED:
        results = item_results(session, convert.job(message))
        items = [{"name": names[index], **result} for index, result in results]
        document["result"] = {"items": whole_numbers(items)}
    return document


def _report(
    options: argparse.Namespace, session: Session, job: Job, names: Sequence[str], output: Output | None
) -> int:
    """Print how the job ended and what it found; warnings do not change the exit status."""
    print_warnings(text.list_warnings(job))
    if job.state is not JobState.SUCCEEDED:
        return complain(describe_failure(job), FAILED)
    if garbage := (job.result or {}).get("garbage"):
        complain(f'source "src": decompression OK, trailing garbage ignored ({garbage} bytes)', DONE)
    if output is not None:
        output.send()
    elif options.json:
        return DONE
    elif names:
        for index, result in item_results(session, job):
            print_out(f"{escaped(names[index])}: {text.format_value(result)}")
    else:
        print_out(text.format_result(job.result))
        if job.result and "items_omitted" in job.result:
            for index, result in item_results(session, job):
                print_out(f"{index}: {text.format_value(result)}")
    return DONE


def _interrupted(options: argparse.Namespace, session: Session, draft: Draft, status: int) -> int:
    """Report what became of an interrupted job, if the daemon still answers."""
    try:
        message = session.get(request_id=draft.request_id)
    except KtaskError:
        return complain("interrupted", status)
    if options.json:
        print_json(message)
    job = convert.job(message)
    how = describe_failure(job) if job.state.ended else f"job {job.id} is {job.state}"
    return complain(f"interrupted; {how}", status)


def _clear(drawer: Drawer | None) -> None:
    if drawer is not None:
        drawer.clear()


def _order(options: argparse.Namespace, function: pb.Function, end: contextlib.ExitStack) -> _Order:
    """The job that the options describe; `end` closes the files that are opened for it."""
    ranges, strays = _ranges(options.range)
    given, also_sources = arguments.divide(options.arg, function)
    words, also_given = arguments.apart(
        [pair(word, "NAME=PATH") for word in [*options.sources, *strays]], function
    )
    given += also_given
    sources: dict[str, Any] = dict(unique([*words, *also_sources], "source"))
    for name, nbytes in unique((pair(word, "NAME=SIZE") for word in options.memory), "memory").items():
        if name in sources:
            raise UsageError(f'source "{name}": given twice')
        sources[name] = end.enter_context(_memory(name, nbytes))
    arg = arguments.convert(unique(given, "argument"), function)
    streams = Streams(function, end)
    draft = Draft(
        function=options.function,
        arg=arg or None,
        ranges=ranges or None,
        items=None if options.items is None else streams.items(options.items),
        min_chunk=options.min_chunk,
        max_threads=options.max_threads,
        undo=not options.no_undo,
        labels=arguments.labels(options.label),
        sources=streams.sources(sources),
        request_id=os.urandom(16).hex(),
    )
    if streams.output is not None and (options.json or options.detach):
        word = "--json" if options.json else "--detach"
        raise UsageError(f'{word}: given with "-" as a target, wanted a file: standard output is in use')
    return _Order(draft, tuple(options.items or ()), streams.output)


def _memory(name: str, nbytes: str) -> Memory:
    wanted = arguments.size(nbytes)
    try:
        return memory(wanted)
    except (ValueError, OSError, OverflowError) as error:
        raise UsageError(f'memory "{name}": {error}') from None


def _ranges(groups: list[list[str]]) -> tuple[list[tuple[int, ...]], list[str]]:
    """Ranges, and the sources among them, as in `--range 0:10 data=PATH`."""
    ranges, strays = [], []
    for group in groups:
        for i, word in enumerate(group):
            if i and "=" in word:
                strays.append(word)
            else:
                ranges.append(arguments.job_range(word))
    return ranges, strays
