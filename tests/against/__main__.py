"""Compare every function with another tool on files of many kinds; exit status 1 if a result differs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import ktask

from ktaskd.functions.catalogue import CATALOGUE
from tests.against import tools
from tests.against.checks import CHECKS, Place
from tests.against.inputs import MIB, files, many
from tools.private import private_daemon, temporary_directory

AT_ONCE = 500
"""Files in one job of items."""

Line = tuple[bool, str, str, str]


def compare_all(client: ktask.Client, directory: Path, sparse: int, count: int) -> Iterator[Line]:
    """Whether the results are equal, the function, the input and the tool, one tuple for each check."""
    place = Place(client, directory)
    for name, (other, check) in CHECKS.items():
        chunk = CATALOGUE[name.split()[0]].min_chunk
        for about, path in files(directory, chunk if chunk > 1 else MIB, sparse):
            yield check(place, path), name, about, other
    yield from _many(client, many(directory / "many", count))


def _many(client: ktask.Client, paths: list[Path]) -> Iterator[Line]:
    """Small files as items, in order."""
    about = f"{len(paths)} small files"
    for name, key, other, wanted in (
        ("file.crc32", "crc32", "zlib", tools.crc32),
        ("file.crc32c", "crc32c", "anycrc", tools.crc32c),
        ("file.blake3", "blake3", "blake3", tools.blake3_of),
        (
            "file.xxh3",
            "xxh3",
            "xxhash",
            tools.xxh3_whole,
        ),
    ):
        yield _items(client, name, key, paths) == [wanted(path) for path in paths], name, about, other
    lines = tools.tool("sha256sum", "-z", *paths).split(b"\0")
    yield (
        _items(client, "file.sha256", "sha256", paths) == [line[:64].decode() for line in lines if line],
        *("file.sha256", about, "sha256sum"),
    )


def _items(client: ktask.Client, name: str, key: str, paths: list[Path]) -> list[object]:
    found: list[object] = []
    for first in range(0, len(paths), AT_ONCE):
        some = [ktask.file(path) for path in paths[first : first + AT_ONCE]]
        found += [item[key] for item in (client.run(name, items=some).result or {})["items"]]
        for file in some:
            file.close()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """0 = all equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.against", description=__doc__)
    parser.add_argument(
        "--sparse", type=int, default=4096, metavar="MIB", help="length of the file with holes"
    )
    parser.add_argument("--files", type=int, default=10_000, help="small files")
    options = parser.parse_args(argv)
    begin_s, wrong, count = time.monotonic(), 0, 0
    with (
        temporary_directory("ktaskd-against-") as directory,
        private_daemon(directory) as runtime,
        ktask.connect(runtime) as client,
    ):
        for equal, name, about, other in compare_all(client, directory, options.sparse * MIB, options.files):
            print(f"{'equal' if equal else 'WRONG'}  {name:<21} {about:<24} {other}", flush=True)
            wrong, count = wrong + (not equal), count + 1
    print(f"{count} compared, {wrong} wrong, {time.monotonic() - begin_s:.0f} s, {os.cpu_count()} CPUs")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
