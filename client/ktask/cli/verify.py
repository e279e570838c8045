"""`ktask verify`: checks files against a list of digests."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ktask.cli.arguments import UsageError
from ktask.cli.batches import Opened, Result, Unreadable, each, is_of_a_file, min_chunk, problem_of, results
from ktask.cli.exits import warn
from ktask.cli.manifest_text import ALGORITHMS, BlockedFile, BrokenEntry, Entry, Listed, WholeFile, parse
from ktask.cli.pipeline import in_order
from ktask.cli.report import Found, Report, State
from ktask.cli.streams import DASH
from ktask.core import Draft
from ktask.errors import KtaskError
from ktask.link.connect import open_session
from ktask.link.session import Session
from ktask.source import memory

_DIGEST_BYTES = 32
_PROBES = 3
"""Files that are tried with each algorithm if the list does not name it."""


def verify(options: argparse.Namespace) -> int:
    """Report the files that do not match a manifest."""
    if options.resume == DASH:
        raise UsageError('--resume: got "-", wanted a file')
    content = _read(options.manifest)
    state = State(options.resume, hashlib.sha256(content).hexdigest())
    listed = parse(content)
    if options.manifest == DASH:
        _forbid_dash(listed)
    report = Report(options, state)
    if listed.entries:
        with contextlib.closing(open_session(options.socket, warn=warn)) as session:
            checker = _Checker(session, options.algorithm)
            for batch in in_order(session, listed.entries[state.done :], _name_of, checker.check):
                for one, found in batch:
                    report.add(one.asked.name, found)
                state.note(len(batch))
    state.forget()
    return report.summarize(listed, options.manifest)


def _read(path: str) -> bytes:
    if path != DASH:
        return Path(path).read_bytes()
    if sys.stdin is None:
        raise UsageError('manifest "-": standard input is closed')
    return sys.stdin.buffer.read()


def _forbid_dash(listed: Listed) -> None:
    """Count entries "-" as bad lines: standard input was the list itself."""
    dashes = [entry for entry in listed.entries if entry.name == os.fsencode(DASH)]
    listed.bad_lines += [0] * len(dashes)
    listed.entries = [entry for entry in listed.entries if entry not in dashes]


class _Checker:
    """Compares files with digests, and detects the algorithm of the digests. Thread-safe."""

    def __init__(self, session: Session, algorithm: str | None) -> None:
        """Check nothing yet.

        Args:
            algorithm: that of lines that do not name it; None = detect it.
        """
        self._session = session
        self._given = algorithm
        self._usual: str | None = algorithm

    def check(self, opened: Sequence[Opened[Entry]]) -> list[Found]:
        """Check some files; return the faults of each, in order."""
        found: dict[int, Found] = {}
        whole: list[int] = []
        for i, one in enumerate(opened):
            if isinstance(one.asked, BrokenEntry):
                found[i] = [f" {one.asked.problem}"]
            elif one.file is None:
                found[i] = Unreadable(one.problem)
            elif isinstance(one.asked, BlockedFile):
                found[i] = self._blocks(one.asked, one)
            else:
                whole.append(i)
        for i, result in zip(whole, self._whole([opened[i] for i in whole]), strict=True):
            found[i] = result
        return [found[i] for i in range(len(opened))]

    def _whole(self, files: Sequence[Opened[Entry]]) -> list[Found]:
        """Check files with one digest each, with one job for each algorithm."""
        unnamed = [one for one in files if not _algorithm_of(one)]
        if unnamed and self._usual is None:
            self._usual = self._probe(unnamed)
        usual = self._usual or ALGORITHMS[0]
        found: list[Found] = [()] * len(files)
        for algorithm in ALGORITHMS:
            chosen = [i for i, one in enumerate(files) if (_algorithm_of(one) or usual) == algorithm]
            for i, result in zip(chosen, self._matches([files[i] for i in chosen], algorithm), strict=True):
                found[i] = result if isinstance(result, Unreadable) else [] if result["ok"] else [""]
        if self._given is None:
            self._try_others(files, found, usual)
        return found

    def _try_others(self, files: Sequence[Opened[Entry]], found: list[Found], usual: str) -> None:
        """Clear the faults of files whose digest is another algorithm's."""
        wrong = [i for i, one in enumerate(files) if found[i] == [""] and not _algorithm_of(one)]
        for algorithm in ALGORITHMS:
            if algorithm == usual or not wrong:
                continue
            results = self._matches([files[i] for i in wrong], algorithm)
            right = [i for i, result in zip(wrong, results, strict=True) if _is_match(result)]
            for i in right:
                found[i] = []
            if len(right) * 2 > len(wrong):
                self._usual = algorithm

    def _probe(self, files: Sequence[Opened[Entry]]) -> str | None:
        """The algorithm of the smallest files' digests; None if none matches."""
        smallest = sorted(files, key=lambda one: one.size)[:_PROBES]
        for algorithm in ALGORITHMS:
            if any(map(_is_match, self._matches(smallest, algorithm))):
                return algorithm
        return None

    def _matches(self, files: Sequence[Opened[Entry]], algorithm: str) -> list[Result | Unreadable]:
        """Compare each file with its digest."""

        def run(numbers: range) -> list[Result]:
            chosen = [files[i] for i in numbers]
            digests = [one.asked.digest for one in chosen if isinstance(one.asked, WholeFile)]
            items = [one.file for one in chosen]
            return self._results(algorithm, digests, items=items, min_chunk=min_chunk(chosen))

        return each(run, range(len(files)))

    def _blocks(self, entry: BlockedFile, one: Opened[Entry]) -> Found:
        try:
            return list(self._wrong_blocks(entry, one))
        except KtaskError as error:
            if not is_of_a_file(error):
                raise
            return Unreadable(problem_of(error))

    def _wrong_blocks(self, entry: BlockedFile, one: Opened[Entry]) -> Iterator[str]:
        """Yield the faults of a file whose entry has a digest for each block."""
        size = one.size
        if size != entry.size:
            yield f" has {size} bytes, listed with {entry.size}"
        whole = min(-(-size // entry.block), len(entry.digests))
        if not whole:
            return
        draft = {"arg": {"block": entry.block}, "ranges": [(0, whole)], "sources": {"data": one.file}}
        for i, result in enumerate(self._results(entry.algorithm, entry.digests[:whole], **draft)):
            if not result["ok"]:
                first = i * entry.block
                yield f" bytes {first} to {first + int(result['bytes'])}"

    def _results(self, algorithm: str, digests: Sequence[str], **draft: Any) -> list[Result]:
        """Run file.verify with these digests and return its results."""
        with memory(len(digests) * _DIGEST_BYTES) as expected:
            expected[:] = b"".join(map(bytes.fromhex, digests))
            sources = {**draft.pop("sources", {}), "expected": expected}
            arg = {"algorithm": algorithm, **draft.pop("arg", {})}
            return results(self._session, Draft("file.verify", arg=arg, sources=sources, **draft))


def _name_of(entry: Entry) -> bytes:
    return entry.name


def _algorithm_of(one: Opened[Entry]) -> str:
    return one.asked.algorithm if isinstance(one.asked, WholeFile) else ""


def _is_match(result: Result | Unreadable) -> bool:
    return not isinstance(result, Unreadable) and bool(result["ok"])
