"""`ktask manifest` and `ktask verify`: digests of trees, and whether they still hold."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ktask import convert
from ktask.cli.arguments import UsageError
from ktask.cli.main import BAD_INPUT, DONE, FAILED, complain
from ktask.client import open_session
from ktask.core import Draft
from ktask.errors import JobFailed
from ktask.manifest import BlockedFile, Entry, ManifestInvalid, WholeFile, format_entry, parse
from ktask.results import JobState
from ktask.session import Session
from ktask.source import memory

FILES_PER_JOB = 500
"""Open at one time; a process may have 1024 without asking for more."""

_DIGEST_BYTES = 32

Result = Mapping[str, Any]


# -- manifest -----------------------------------------------------------------------


def manifest(options: argparse.Namespace) -> int:
    """Write the digests of files, and of all files below directories."""
    bad = _Complaints()
    algorithm = options.algorithm
    with contextlib.ExitStack() as end:
        session = end.enter_context(contextlib.closing(open_session(options.socket)))
        out = end.enter_context(_output(options.output))
        files = _walk(map(os.fsencode, options.paths), bad)
        while batch := list(islice(files, FILES_PER_JOB)):
            for entry in _entries(session, batch, algorithm, options.block, bad):
                out.writelines(format_entry(entry))
            out.flush()
    return bad.status


def _entries(
    session: Session, names: Sequence[bytes], algorithm: str, block: int, bad: _Complaints
) -> Iterator[Entry]:
    """The entries of some files, in their order."""
    with contextlib.ExitStack() as end:
        opened = _open_all(names, end, bad)
        huge = {name for name, file in opened.items() if block and os.fstat(file.fileno()).st_size > block}
        small = {name: file for name, file in opened.items() if name not in huge}
        digests = dict(zip(small, _digests(session, list(small.values()), algorithm), strict=True))
        for name, file in opened.items():
            if name in huge:
                yield _by_blocks(session, name, file, algorithm, block)
            else:
                yield WholeFile(name, digests[name])


def _digests(session: Session, files: Sequence[IO[bytes]], algorithm: str) -> list[str]:
    if not files:
        return []
    draft = Draft("file.manifest", arg={"algorithm": algorithm}, items=files)
    return [str(result["digest"]) for result in _results(session, draft)]


def _by_blocks(session: Session, name: bytes, file: IO[bytes], algorithm: str, block: int) -> BlockedFile:
    draft = Draft("file.manifest", arg={"algorithm": algorithm, "block": block}, sources={"data": file})
    results = _results(session, draft)
    digests = tuple(str(result["digest"]) for result in results)
    return BlockedFile(name, algorithm, block, sum(int(result["bytes"]) for result in results), digests)


def _walk(paths: Iterable[bytes], bad: _Complaints) -> Iterator[bytes]:
    """Regular files, those below a directory in the order of their names; links are not followed."""
    for path in paths:
        try:
            mode = os.lstat(path).st_mode
            below = sorted(os.listdir(path)) if stat.S_ISDIR(mode) else []
        except OSError as error:
            bad.say(path, error.strerror or str(error))
            continue
        if stat.S_ISREG(mode):
            yield path
        yield from _walk((os.path.join(path, name) for name in below), bad)


# -- verify -------------------------------------------------------------------------


def verify(options: argparse.Namespace) -> int:
    """Say which files are not as a manifest has them."""
    content = _read(options.manifest)
    state = _State(options.resume, hashlib.sha256(content).hexdigest())
    report = _Report(options.quiet, state)
    try:
        entries = list(parse(content.split(b"\n")))
    except ManifestInvalid as error:
        return complain(f'manifest "{options.manifest}": {error}', BAD_INPUT)
    with contextlib.closing(open_session(options.socket)) as session:
        rest = iter(entries[state.done :])
        while batch := list(islice(rest, FILES_PER_JOB)):
            _verify_some(session, batch, options.algorithm, report)
            state.note(len(batch))
    state.forget()
    return report.summarize(len(entries))


def _verify_some(session: Session, entries: Sequence[Entry], algorithm: str, report: _Report) -> None:
    with contextlib.ExitStack() as end:
        opened = _open_all([entry.name for entry in entries], end, report)
        there = [entry for entry in entries if entry.name in opened]
        small = [entry for entry in there if isinstance(entry, WholeFile)]
        files = [opened[entry.name] for entry in small]
        digests = [entry.digest for entry in small]
        results = _checked(session, algorithm, digests, items=files)
        wrong = {entry.name for entry, result in zip(small, results, strict=True) if not result["ok"]}
        for entry in there:
            if isinstance(entry, BlockedFile):
                report.tell(entry.name, list(_verify_blocks(session, entry, opened[entry.name])))
            else:
                report.tell(entry.name, [""] if entry.name in wrong else [])


def _verify_blocks(session: Session, entry: BlockedFile, file: IO[bytes]) -> Iterator[str]:
    """What is wrong with a file that has a digest for each block."""
    size = os.fstat(file.fileno()).st_size
    if size != entry.size:
        yield f" got {size} bytes, wanted {entry.size}"
    whole = min(-(-size // entry.block), len(entry.digests))
    if not whole:
        return
    arg = {"block": entry.block}
    draft_of = {"arg": arg, "ranges": [(0, whole)], "sources": {"data": file}}
    results = _checked(session, entry.algorithm, entry.digests[:whole], **draft_of)
    for i, result in enumerate(results):
        if not result["ok"]:
            first = i * entry.block
            yield f" bytes {first} to {first + int(result['bytes'])}"


def _checked(session: Session, algorithm: str, digests: Sequence[str], **draft: Any) -> list[Result]:
    """Results of file.verify against these digests."""
    if not digests:
        return []
    with memory(len(digests) * _DIGEST_BYTES) as expected:
        expected[:] = b"".join(map(bytes.fromhex, digests))
        sources = {**draft.pop("sources", {}), "expected": expected}
        arg = {"algorithm": algorithm, **draft.pop("arg", {})}
        return _results(session, Draft("file.verify", arg=arg, sources=sources, **draft))


def _results(session: Session, draft: Draft) -> list[Result]:
    """What a job told of each position; raises JobFailed."""
    job = convert.job(session.run(draft))
    if job.state is not JobState.SUCCEEDED:
        raise JobFailed(job)
    items = (job.result or {}).get("items")
    if items is not None:
        return list(items)
    return [convert.plain(one.result) for message in session.watch(id=job.id) for one in message.results]


# -- files and what is said of them ---------------------------------------------------


class _Complaints:
    """What could not be read goes to standard error, and into the exit status."""

    def __init__(self) -> None:
        self.status = DONE

    def say(self, name: bytes, problem: str) -> None:
        """Name a file that could not be read."""
        self.status = complain(f'file "{os.fsdecode(name)}": {problem}', FAILED)


class _Report(_Complaints):
    """One line for each file, as `sha256sum -c` has it."""

    def __init__(self, quiet: bool, state: _State) -> None:
        super().__init__()
        self._quiet = quiet
        self._state = state
        for line in state.bad:
            self._print(line + b" (before)")

    def say(self, name: bytes, problem: str) -> None:
        """A file that cannot be read is not as it was."""
        super().say(name, problem)
        self.tell(name, [" open or read"])

    def tell(self, name: bytes, problems: Sequence[str]) -> None:
        """Print how a file is."""
        for problem in problems:
            line = name + b": FAILED" + problem.encode()
            self._state.bad.append(line)
            self._print(line)
        if not problems and not self._quiet:
            self._print(name + b": OK")

    def _print(self, line: bytes) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()

    def summarize(self, count: int) -> int:
        """Say how many were bad; returns the exit status."""
        bad = len(self._state.bad)
        if bad:
            return complain(f"verify: {count} files, {bad} findings", FAILED)
        return DONE


class _State:
    """How far an earlier run came, in a file of one line and what it found; no file, no memory."""

    def __init__(self, path: str | None, manifest_digest: str) -> None:
        self._path = Path(path) if path is not None else None
        self._digest = manifest_digest.encode()
        self.done = 0
        self.bad: list[bytes] = []
        if self._path is not None and self._path.exists():
            self._load(self._path)

    def _load(self, path: Path) -> None:
        head, *bad = path.read_bytes().split(b"\n")
        words = head.split(b" ")
        if len(words) != 3 or words[0] != b"ktask-verify" or not words[2].isdigit():
            raise UsageError(f'resume "{path}": got another kind of file, wanted one of `ktask verify`')
        if words[1] != self._digest:
            raise UsageError(f'resume "{path}": it is of another manifest; remove it to begin anew')
        self.done, self.bad = int(words[2]), [line for line in bad if line]

    def note(self, count: int) -> None:
        """So many entries more are checked."""
        self.done += count
        if self._path is not None:
            lines = [b"ktask-verify %s %d" % (self._digest, self.done), *self.bad]
            new = self._path.with_name(self._path.name + ".new")
            new.write_bytes(b"\n".join(lines) + b"\n")
            new.replace(self._path)

    def forget(self) -> None:
        """All is checked: the next run begins anew."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _open_all(names: Sequence[bytes], end: contextlib.ExitStack, bad: _Complaints) -> dict[bytes, IO[bytes]]:
    """Those that can be opened, by name."""
    opened: dict[bytes, IO[bytes]] = {}
    for name in names:
        try:
            # A fifo that came in place of the file must not be waited for.
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            bad.say(name, error.strerror or str(error))
            continue
        opened[name] = end.enter_context(os.fdopen(fd, "rb", buffering=0))
    return opened


def _read(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[IO[bytes]]:
    if path is None:
        yield sys.stdout.buffer
    else:
        with open(path, "wb") as file:
            yield file
