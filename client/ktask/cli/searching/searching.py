"""`ktask search`: prints the lines of files and streams that match."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ktask.cli.batches import (
    Opened,
    Result,
    Unreadable,
    each_readable,
    is_of_a_file,
    min_chunk,
    problem_of,
    results,
)
from ktask.cli.escaping import printable
from ktask.cli.exits import BAD_INPUT, DONE, FAILED, print_error, warn
from ktask.cli.output import write_out
from ktask.cli.pipeline import in_order
from ktask.cli.searching.printing import Printer, is_utf8, is_utf8_locale, text_before_zero
from ktask.cli.searching.query import query_of
from ktask.cli.searching.stretches import STRETCH_BYTES, Engine, Lines, Stretch, of_file, of_stream
from ktask.cli.streams import DASH, has_length, standard_input
from ktask.cli.walking import Complaints, walk
from ktask.core import Draft
from ktask.errors import KtaskError
from ktask.link.connect import open_session

_SMALL = 1 << 20
"""Bytes up to which a file is searched in one job with others."""

_HEAD = 32 << 10
"""Bytes in which a zero byte makes a file binary before any line is printed."""

_FIRST_BYTES = 16 << 20
"""Bytes that are searched first if one match is enough."""

_LIMIT = 1000
_STDIN = b"(standard input)"
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class _Later:
    """A file that is searched when its turn comes."""


_Outcome = Result | Unreadable | _Later


def search(options: argparse.Namespace) -> int:
    """Search the files of a command line; returns the exit status of grep."""
    query = query_of(options)
    words = [os.fsencode(word) for word in options.words]
    prefix = options.prefix
    if prefix is None:
        prefix = len(words) > 1 or bool(options.recursive and (not words or os.path.isdir(words[0])))
    is_terminal = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    color = options.color == "always" or (options.color == "auto" and is_terminal)
    printer = Printer(options, query, write_out, prefix=prefix, color=color and not options.quiet)
    with contextlib.closing(open_session(options.socket, warn=warn)) as session:
        return _Search(options, Engine(session, query, compact=not options.number), printer).run(words)


class _Search:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, engine: Engine, printer: Printer) -> None:
        self._options = options
        self._engine = engine
        self._printer = printer
        self._most: int | None = options.max_count
        self._has_match, self._has_trouble = False, False
        self._only_whether = bool(options.quiet or options.names)
        self._utf8 = is_utf8_locale()
        self._binary: set[bytes] = set()

    def run(self, words: Sequence[bytes]) -> int:
        if self._most == 0 and not self._options.names:
            return FAILED
        for batch in in_order(self._engine.session, self._names(words), lambda name: name, self._work, _open):
            for opened, outcome in batch:
                self._one(opened, outcome)
                self._report_binary()
                if self._has_match and self._options.quiet:
                    return DONE
        return BAD_INPUT if self._has_trouble else DONE if self._has_match else FAILED

    def _names(self, words: Sequence[bytes]) -> Iterator[bytes]:
        if not self._options.recursive:
            yield from words or [os.fsencode(DASH)]
            return
        for word in words or [b"."]:
            if word == os.fsencode(DASH) or not os.path.isdir(word):
                yield word
                continue
            for name in walk([os.path.join(word, b"")], (), self._complaints()):
                yield name if words else name.removeprefix(b"./")

    def _complaints(self) -> Complaints:
        search = self

        class _Silent(Complaints):
            def add(self, name: bytes, problem: str) -> None:
                search._complain(name, problem)

        return _Silent()

    def _complain(self, name: bytes, problem: str) -> None:
        self._has_trouble = True
        if not self._options.silent:
            print_error(f"ktask: search: {printable(os.fsdecode(name))}: {problem}")

    def _work(self, opened: Sequence[Opened[bytes]]) -> list[_Outcome]:
        """Search the small ones of these files by one job."""
        small = [one for one in opened if one.file is None or _is_small(one.file)]
        arg = {**self._engine.arg, "show": "count" if self._counts else "offsets", "limit": _LIMIT}

        def run(chosen: list[Opened[bytes]]) -> list[Result]:
            items = [one.file for one in chosen]
            draft = Draft("text.search", arg=arg, items=items, min_chunk=min_chunk(chosen))
            return results(self._engine.session, draft)

        found = iter(each_readable(small, run) if small else [])
        return [next(found) if one.file is None or _is_small(one.file) else _Later() for one in opened]

    @property
    def _counts(self) -> bool:
        return self._only_whether or bool(self._options.count)

    def _one(self, opened: Opened[bytes], outcome: _Outcome) -> None:
        name = _STDIN if opened.asked == os.fsencode(DASH) else opened.asked
        if isinstance(outcome, Unreadable):
            self._complain(name, outcome.problem)
            return
        try:
            count = self._searched(name, opened.file, None if isinstance(outcome, _Later) else outcome)
        except KtaskError as error:
            if not is_of_a_file(error):
                raise
            self._complain(name, problem_of(error))
            return
        self._has_match = self._has_match or count > 0
        names = self._options.names
        if self._options.quiet:
            return
        if names:
            if (names == "with") == (count > 0):
                self._printer.name(name)
        elif self._options.count:
            self._printer.count(name, count if self._most is None else min(count, self._most))

    def _searched(self, name: bytes, file: Any, found: Result | None) -> int:
        """Search one file, and print its lines unless only their number counts; returns how many match."""
        if self._counts:
            if found is not None:
                return int(found["count"])
            return self._whether(file) if self._only_whether else sum(map(self._counted, _stretches(file)))
        if found is not None and not found["truncated"]:
            return self._print_small(name, file, [int(offset) for offset in found["offsets"]])
        return self._print_all(name, file)

    def _whether(self, file: Any) -> int:
        """Whether any line matches, by stretches that grow."""
        step = _FIRST_BYTES
        for stretch in _stretches(file, step):
            if self._counted(stretch):
                return 1
        return 0

    def _counted(self, stretch: Stretch) -> int:
        try:
            return self._engine.count(stretch)
        finally:
            stretch.close()

    def _print_small(self, name: bytes, file: Any, offsets: list[int]) -> int:
        if not offsets:
            return 0
        data = os.pread(file.fileno(), _SMALL, 0)
        if not self._options.text and 0 in data[:_HEAD]:
            self._binary.add(name)
            return len(offsets)
        chosen = offsets[: self._most]
        text = b"".join(_line(data, offset) for offset in chosen)
        self._print(name, text, _numbers(data, chosen) if self._printer.numbers else None)
        return len(chosen)

    def _print_all(self, name: bytes, file: Any) -> int:
        """Print the lines of a long file or a stream; returns how many match."""
        count, number = 0, 1
        is_first = True
        ahead = self._most is None
        with contextlib.closing(self._engine.all(_stretches(file), ahead=ahead)) as found:
            for lines in found:
                stretch = lines.stretch
                if is_first and lines.count and not self._options.text and _has_zero(stretch):
                    self._binary.add(name)
                    return lines.count
                is_first = False
                left = None if self._most is None else self._most - count
                done = self._print_stretch(name, lines, number, left)
                count += lines.count if left is None else min(lines.count, left)
                if not done or (self._most is not None and count >= self._most):
                    return count
                if self._printer.numbers:
                    number += _newlines(stretch.source.fileno(), stretch.start, stretch.end)
        return count

    def _print_stretch(self, name: bytes, lines: Lines, number: int, most: int | None) -> bool:
        """Print the lines of a stretch; returns whether the rest of the file is text, too."""
        stretch, fd = lines.stretch, lines.stretch.source.fileno()
        at, line_number = stretch.start, number
        for start, text in self._runs(lines):
            numbers = None
            if self._printer.numbers:
                line_number += _newlines(fd, at, start)
                at = start
                numbers = iter(range(line_number, line_number + text.count(b"\n") + 1))
            if most is not None:
                text = b"".join(islice(text.splitlines(keepends=True), most))
                most -= text.count(b"\n")
            if not self._print(name, text, numbers):
                return False
            if most is not None and most <= 0:
                return True
        return True

    def _runs(self, lines: Lines) -> Iterator[tuple[int, bytes]]:
        """Runs of lines that follow each other, and the position of each."""
        stretch = lines.stretch
        if not lines.count:
            return
        if lines.zero >= 0 and self._options.text:
            # The zeros in these lines cannot be told from those between them.
            for offset in self._engine.offsets(stretch):
                yield offset, _line_at(stretch.source.fileno(), offset)
            return
        limit = None if lines.zero < 0 else lines.zero - stretch.start
        for at, block in _blocks(lines.memory.fileno(), limit):
            for first, run in _runs(block):
                yield stretch.start + at + first, run
        if lines.zero >= 0:
            yield lines.zero, b"\0"

    def _print(self, name: bytes, text: bytes, numbers: Iterator[int] | None) -> bool:
        """Print the lines before the first with a zero byte if they are text; False if there is one."""
        if self._options.text:
            self._printer.lines(name, text, numbers)
            return True
        end = text_before_zero(text)
        if self._utf8 and not is_utf8(text[:end]):
            self._print_valid(name, text[:end], numbers)
        elif end:
            self._printer.lines(name, text[:end], numbers)
        if end < len(text):
            self._binary.add(name)
        return end == len(text)

    def _print_valid(self, name: bytes, text: bytes, numbers: Iterator[int] | None) -> None:
        self._binary.add(name)
        for line in text.splitlines(keepends=True):
            number = None if numbers is None else iter([next(numbers)])
            if is_utf8(line):
                self._printer.lines(name, line, number)

    def _report_binary(self) -> None:
        for name in self._binary:
            print_error(f"ktask: search: {printable(os.fsdecode(name))}: binary file matches")
        self._binary.clear()


def _open(name: bytes, end: contextlib.ExitStack) -> Any:
    """Open a file of any kind; raises OSError, UsageError."""
    is_input = name == os.fsencode(DASH)
    fd = standard_input() if is_input else name
    return end.enter_context(open(fd, "rb", buffering=0, closefd=not is_input))


def _is_small(file: Any) -> bool:
    return _is_long(file) and os.fstat(file.fileno()).st_size <= _SMALL


def _is_long(file: Any) -> bool:
    """Whether it is a regular file that is read from its begin, and as long as its status says."""
    fd = file.fileno()
    return has_length(fd) and os.lseek(fd, 0, os.SEEK_CUR) == 0


def _stretches(file: Any, step: int = STRETCH_BYTES) -> Iterator[Stretch]:
    return of_file(file, step) if _is_long(file) else of_stream(file.fileno())


def _has_zero(stretch: Stretch) -> bool:
    return 0 in os.pread(stretch.source.fileno(), _HEAD, 0)


def _line(data: bytes, offset: int) -> bytes:
    """A line with its newline, which the last of a file may lack."""
    end = data.find(b"\n", offset)
    return data[offset:] + b"\n" if end < 0 else data[offset : end + 1]


def _line_at(fd: int, offset: int) -> bytes:
    parts = []
    while data := os.pread(fd, 1 << 16, offset):
        line, newline, _ = data.partition(b"\n")
        parts.append(line)
        offset += len(data)
        if newline:
            break
    return b"".join(parts) + b"\n"


def _numbers(data: bytes, offsets: Sequence[int]) -> Iterator[int]:
    number, at = 1, 0
    for offset in offsets:
        number, at = number + data.count(b"\n", at, offset), offset
        yield number


def _newlines(fd: int, start: int, end: int) -> int:
    count = 0
    while start < end and (data := os.pread(fd, min(1 << 20, end - start), start)):
        count += data.count(b"\n")
        start += len(data)
    return count


def _runs(block: bytes) -> Iterator[tuple[int, bytes]]:
    """The runs of bytes that are not zero, and the position of each."""
    at = 0
    while at < len(block):
        if block[at]:
            end = block.find(0, at)
            end = len(block) if end < 0 else end
            yield at, block[at:end]
            at = end
        else:
            # Faster than a regular expression.
            at += len(zeros := block[at : at + _PAGE]) - len(zeros.lstrip(b"\0"))


def _blocks(fd: int, limit: int | None) -> Iterator[tuple[int, bytes]]:
    """Whole lines of sparse memory, with the position of each block."""
    at, size = 0, os.fstat(fd).st_size if limit is None else limit
    rest, begin = b"", 0
    while at < size:
        try:
            first = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        after = min(os.lseek(fd, first, os.SEEK_HOLE), size, first + (1 << 20))
        if first > at and rest:
            yield begin, rest
            rest = b""
        if first >= size:
            break
        if not rest:
            begin = first
        block = rest + os.pread(fd, after - first, first)
        cut = block.rfind(b"\n") + 1
        if cut:
            yield begin, block[:cut]
        rest, begin = block[cut:], begin + cut
        at = after
    if rest:
        yield begin, rest
