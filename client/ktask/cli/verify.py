"""`ktask verify`: checks files against a list of digests."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from ktask.cli.arguments import UsageError
from ktask.cli.batches import Opened, Result, Unreadable, is_of_a_file, problem_of, results
from ktask.cli.exits import warn
from ktask.cli.manifest_text import ALGORITHMS, BlockedFile, BrokenEntry, Entry, Listed, WholeFile, parse
from ktask.cli.pipeline import in_order
from ktask.cli.report import Found, Report, State
from ktask.cli.streams import DASH, read_whole
from ktask.cli.sums.digests import Detector
from ktask.cli.sums.lines import Expected
from ktask.core import Draft
from ktask.errors import KtaskError
from ktask.link.connect import open_session
from ktask.link.session import Session
from ktask.source import memory

_DIGEST_BYTES = 32


def verify(options: argparse.Namespace) -> int:
    """Report the files that do not match a manifest."""
    if options.resume == DASH:
        raise UsageError('--resume: got "-", wanted a file')
    content = read_whole(options.manifest)
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


def _forbid_dash(listed: Listed) -> None:
    """Count entries "-" as bad lines: standard input was the list itself."""
    dashes = [entry for entry in listed.entries if entry.name == os.fsencode(DASH)]
    listed.bad_lines += [0] * len(dashes)
    listed.entries = [entry for entry in listed.entries if entry not in dashes]


class _Checker:
    """Compares files with their digests. Thread-safe."""

    def __init__(self, session: Session, algorithm: str | None) -> None:
        """Check nothing yet.

        Args:
            algorithm: that of lines that do not name it; None = detect it.
        """
        self._session = session
        self._given = algorithm
        self._detector = Detector(session)

    def check(self, opened: Sequence[Opened[Entry]]) -> list[Found]:
        """Check some files; return the faults of each, in order."""
        found: dict[int, Found] = {}
        whole: dict[int, Opened[Expected]] = {}
        for i, one in enumerate(opened):
            if isinstance(one.asked, BrokenEntry):
                found[i] = [f" {one.asked.problem}"]
            elif one.file is None:
                found[i] = Unreadable(one.problem)
            elif isinstance(one.asked, BlockedFile):
                found[i] = self._blocks(one.asked, one)
            else:
                whole[i] = Opened(self._expected(one.asked), one.file)
        for i, digest in zip(whole, self._detector.found(list(whole.values())), strict=True):
            found[i] = digest if isinstance(digest, Unreadable) else _faults(digest, whole[i].asked)
        return [found[i] for i in range(len(opened))]

    def _expected(self, entry: WholeFile) -> Expected:
        algorithm = entry.algorithm or self._given
        return Expected(entry.name, algorithm or ALGORITHMS[0], entry.digest, sure=bool(algorithm))

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


def _faults(digest: str, expected: Expected) -> list[str]:
    return [] if digest == expected.digest else [""]
