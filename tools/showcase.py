"""Everyday work by one thread and by ktaskd, as a table: many digests, compression, search, a checksum."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ktask
import zstandard

from tools import checks

ROUNDS = 3
"""Runs in each way, in turn."""

ROW_S = 8.0
"""No new round of a row begins after this long, so that the demo also ends on a slow machine."""

PATTERN = "7[0-9]+1.*fox"
"""Some lines of the text match it."""

_FILES = 256
_LINES = 20_000
_BLOCK = 16 << 20
_STRIPE = 1 << 20
_STAMP = 16

_COLUMNS = "{:<20} {:>13} {:>14} {:>11} {:>6}  {}"


@dataclass(frozen=True, slots=True)
class Row:
    """The same work in two ways.

    Args:
        alone: does it in one thread of this program, or by a program with one thread; returns the answer.
        ours: has the daemon do it; returns the answer.
        right: compares both answers, or looks at what was made.
        how: the check in a few words.
    """

    name: str
    size: int
    alone: Callable[[], Any]
    ours: Callable[[], Any]
    right: Callable[[Any, Any], bool]
    how: str


def show_functions(client: ktask.Client, directory: Path, size: int) -> bool:
    """Print the table; returns whether every answer was right."""
    print(f"Times are medians of at most {ROUNDS} rounds, after one to warm up; every answer is checked.\n")
    print(_COLUMNS.format("work", "bytes", "one thread (s)", "ktaskd (s)", "gain", "check"))
    text, files = directory / "text", directory / "files"
    make_text(text, size)
    names = make_files(files, text, max(size // _FILES, 1))
    rows = [
        _digests(client, names),
        _compression(client, text, directory / "text.zst"),
        _search(client, text),
        _checksum(client, text),
    ]
    # A list, so that all rows are shown even if one is wrong.
    return all([_show_row(row) for row in rows])


def make_text(path: Path, size: int) -> None:
    """Write lines of text that differ from each other."""
    with path.open("wb") as file:
        number = 0
        while file.tell() < size:
            lines = (b"%d the quick brown fox, %x\n" % (i, i * 7919) for i in range(number, number + _LINES))
            file.write(b"".join(lines))
            number += _LINES
        file.truncate(size)


def make_files(folder: Path, text: Path, length: int) -> list[Path]:
    """Write the begin of a text into files of this length."""
    folder.mkdir()
    names = [folder / f"{i:03}" for i in range(_FILES)]
    with text.open("rb") as file:
        for name in names:
            name.write_bytes(file.read(length))
    return names


def make_file(path: Path, size: int) -> None:
    """Write a file without holes whose pieces look random and differ from each other."""
    block = memoryview(os.urandom(_BLOCK + _STRIPE))
    with path.open("wb", buffering=0) as file:
        for number in range(-(-size // _STRIPE)):
            offset = number * _STRIPE % _BLOCK
            stamp = number.to_bytes(_STAMP, "little")
            os.writev(file.fileno(), [stamp, bytes(block[offset : offset + _STRIPE - _STAMP])])
        file.truncate(size)


def _digests(client: ktask.Client, names: list[Path]) -> Row:
    def ours() -> list[str]:
        job = client.run("file.sha256", items=names, min_chunk=4)
        return [item["sha256"] for item in (job.result or {})["items"]]

    size = sum(name.stat().st_size for name in names)
    alone = lambda: [checks.sha256(name) for name in names]  # noqa: E731
    return Row(f"sha256 of {len(names)} files", size, alone, ours, checks.equal, "hashlib")


def _compression(client: ktask.Client, text: Path, target: Path) -> Row:
    def alone() -> None:
        with text.open("rb") as source, target.open("wb") as file:
            zstandard.ZstdCompressor(level=3).copy_stream(source, file)

    def ours() -> None:
        target.unlink(missing_ok=True)
        client.run("file.compress", src=text, dst=target)

    def right(_one: None, _other: None) -> bool:
        return checks.decompresses_to(target, text)

    return Row("zstd -3", text.stat().st_size, alone, ours, right, "decompressed again")


def _search(client: ktask.Client, text: Path) -> Row:
    def ours() -> int:
        job = client.run("text.search", data=text, arg={"pattern": PATTERN, "regex": True})
        return int((job.result or {})["count"])

    size, alone = text.stat().st_size, lambda: checks.lines_with(text, PATTERN)
    return Row("search for a pattern", size, alone, ours, checks.equal, "grep -E -c")


def _checksum(client: ktask.Client, text: Path) -> Row:
    def ours() -> int:
        return int((client.run("file.crc32", data=text).result or {})["crc32"])

    size, alone = text.stat().st_size, lambda: checks.crc32(text)
    return Row("crc32 of one file", size, alone, ours, checks.equal, "zlib")


def _show_row(row: Row) -> bool:
    begin = time.monotonic()
    row.alone()
    row.ours()
    alone: list[float] = []
    together: list[float] = []
    right = True
    for _ in range(ROUNDS):
        one, seconds = _timed(row.alone)
        alone.append(seconds)
        other, seconds = _timed(row.ours)
        together.append(seconds)
        right = row.right(one, other) and right
        if time.monotonic() - begin > ROW_S:
            break
    one_thread, ours = statistics.median(alone), statistics.median(together)
    times = f"{one_thread:.3f}", f"{ours:.3f}", f"{one_thread / ours:.2f}"
    print(_COLUMNS.format(row.name, row.size, *times, f"{_verdict(right)} {row.how}"))
    return right


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    answer = work()
    return answer, time.perf_counter() - begin


def _verdict(right: bool) -> str:
    return paint("ok", 32) if right else paint("WRONG", 31)


def paint(text: str, colour: int) -> str:
    """Text in a colour of ECMA-48; unchanged if there is no terminal, or NO_COLOR is set.

    Source: https://no-color.org
    """
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"
