"""`ktask manifest`: digests of files and trees."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ktask.cli.arguments import UsageError
from ktask.cli.batches import Opened, Result, Unreadable, each, is_of_a_file, min_chunk, problem_of, results
from ktask.cli.exits import FAILED, complain, warn
from ktask.cli.manifest_text import BlockedFile, WholeFile, format_entry
from ktask.cli.output import print_document, write_out
from ktask.cli.pipeline import in_order
from ktask.cli.replacement import Replacement
from ktask.cli.streams import DASH
from ktask.cli.walking import Complaints, output_identity, walk
from ktask.core import Draft
from ktask.errors import KtaskError
from ktask.link.connect import open_session
from ktask.link.session import Session

Made = WholeFile | BlockedFile


def manifest(options: argparse.Namespace) -> int:
    """Write the digests of files, and of all files below directories."""
    if options.json and options.output is not None:
        raise UsageError("--json: given with --output; use only one of them")
    bad, count = Complaints(), 0
    with contextlib.ExitStack() as end:
        session = end.enter_context(contextlib.closing(open_session(options.socket, warn=warn)))
        to_file = options.output is not None and options.output != DASH
        new = Replacement(options.output) if to_file else None
        if new is not None:
            end.push(new)  # before the file exists: a signal may come at any moment
            new.open()
        own = set(new.identities()) if new else output_identity()
        documents = []
        for made in _entries(session, walk(map(os.fsencode, options.paths), own, bad), options, bad):
            count += 1
            if options.json:
                documents.append(_document(made, options.algorithm))
            elif new is not None:
                new.file.writelines(format_entry(made))
            else:
                write_out(b"".join(format_entry(made)))
        if options.json:
            print_document({"files": documents})
        # An empty list must not replace a good one.
        if new is not None and count:
            new.complete()
    if not count:
        kept = f', "{options.output}" is left as it was' if to_file else ""
        return complain(f"manifest: there is no file to list{kept}", FAILED)
    return bad.status


def _document(made: Made, algorithm: str) -> dict[str, Any]:
    head = {"name": os.fsdecode(made.name), "algorithm": algorithm}
    if isinstance(made, WholeFile):
        return {**head, "digest": made.digest}
    return {**head, "block": made.block, "bytes": made.size, "root": made.root, "digests": list(made.digests)}


def _entries(
    session: Session, names: Iterable[bytes], options: argparse.Namespace, bad: Complaints
) -> Iterator[Made]:
    """Yield the entries of readable files, in their order."""

    def work(opened: Sequence[Opened[bytes]]) -> list[Made | Unreadable]:
        return _made(session, opened, options)

    for batch in in_order(session, names, lambda name: name, work):
        for one, made in batch:
            if isinstance(made, Unreadable):
                bad.add(one.asked, made.problem)
            else:
                yield made


def _made(
    session: Session, opened: Sequence[Opened[bytes]], options: argparse.Namespace
) -> list[Made | Unreadable]:
    """The entry of each file."""
    huge = {i for i, one in enumerate(opened) if one.file and options.block and one.size > options.block}
    small = [i for i, one in enumerate(opened) if one.file and i not in huge]
    digests = dict(zip(small, _digests(session, [opened[i] for i in small], options), strict=True))
    found: list[Made | Unreadable] = []
    for i, one in enumerate(opened):
        if i in huge:
            found.append(_by_blocks(session, one, options))
        elif not one.file:
            found.append(Unreadable(one.problem))
        else:
            found.append(_whole(one.asked, digests[i]))
    return found


def _whole(name: bytes, result: Result | Unreadable) -> Made | Unreadable:
    return result if isinstance(result, Unreadable) else WholeFile(name, str(result["digest"]))


def _digests(
    session: Session, files: Sequence[Opened[bytes]], options: argparse.Namespace
) -> list[Result | Unreadable]:
    def run(numbers: range) -> list[Result]:
        chosen = [files[i] for i in numbers]
        arg, items = {"algorithm": options.algorithm}, [one.file for one in chosen]
        return results(session, Draft("file.manifest", arg=arg, items=items, min_chunk=min_chunk(chosen)))

    return each(run, range(len(files)))


def _by_blocks(session: Session, one: Opened[bytes], options: argparse.Namespace) -> BlockedFile | Unreadable:
    arg = {"algorithm": options.algorithm, "block": options.block}
    try:
        blocks = results(session, Draft("file.manifest", arg=arg, sources={"data": one.file}))
    except KtaskError as error:
        if not is_of_a_file(error):
            raise
        return Unreadable(problem_of(error))
    digests = tuple(str(block["digest"]) for block in blocks)
    size = sum(int(block["bytes"]) for block in blocks)
    return BlockedFile(one.asked, options.algorithm, options.block, size, digests)
