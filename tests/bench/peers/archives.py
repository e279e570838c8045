"""Compression and search, over the tools that people use for it with two threads."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.interference.line import Line
from tests.bench.interference.programs import needed
from tests.bench.peers.contest import Bench, Way, against, at_most, contest, mib

_RATIO = 1.01
"""Compressed sizes are equal if ours is at most a hundredth larger."""

_NEEDLE = "a needle in no other line"
_SIZE_MAX = 256 << 20
"""More than this takes minutes for each round, and changes no ratio."""


def compress(bench: Bench) -> Iterator[Line]:
    """Formats zstd and gzip, by the same level."""
    yield from _compress(bench, "zstd", 3, ["zstd", "-q", "-f", "-T2", "-3"], 1.0)
    yield from _compress(bench, "gzip", 6, ["pigz", "-f", "-p2", "-6"], 0.5)


def _compress(bench: Bench, kind: str, level: int, tool: list[str], goal: float) -> Iterator[Line]:
    program = needed(tool[0], tool[0])
    source, ours, theirs = (bench.directory / name for name in ("text", "ours", "theirs"))
    size = make_text(source, bench)

    def job() -> None:
        bench.client.run("file.compress", arg={"format": kind, "level": level}, src=source, dst=ours)

    def other() -> None:
        with theirs.open("wb") as stream:
            subprocess.run([program, *tool[1:], "-c", source], check=True, stdout=stream)

    ways = {"ours": Way(job, lambda: ours.unlink(missing_ok=True)), tool[0]: Way(other)}
    times = contest(bench.repeat, ways)
    name = f"file.compress, {kind} -{level}, {mib(size)}, over {' '.join(tool[:1] + tool[-2:])}"
    yield against(times, "ours", [tool[0]], at_most(goal), name)
    sizes = ours.stat().st_size, theirs.stat().st_size
    _check_same(source, ours, [program, "-d", "-c"])
    about = f"{sizes[0]} and {sizes[1]} bytes; both give back the source"
    yield Line(f"  compressed size, {kind}, over theirs", (sizes[0] / sizes[1],), "", at_most(_RATIO), about)
    for path in (source, ours, theirs):
        path.unlink()


def _check_same(source: Path, packed: Path, words: list[str]) -> None:
    """Raise AssertionError unless the other tool makes the source out of what ktaskd has packed."""
    with packed.open("rb") as stream:
        found = subprocess.run(words, stdin=stream, stdout=subprocess.PIPE, check=True).stdout
    assert found == source.read_bytes(), "decompressed, it is not the source"


def search(bench: Bench) -> Iterator[Line]:
    """A literal that one line has."""
    program = needed("rg", "ripgrep")
    path = bench.directory / "text"
    size = make_text(path, bench)
    with path.open("ab") as stream:
        stream.write(f"{_NEEDLE}\n".encode())
    with_job: Callable[[], object] = lambda: (  # noqa: E731
        bench.client.run("text.search", arg={"pattern": _NEEDLE}, data=path).result or {}
    ).get("count")
    words = [program, "-j2", "-c", "-F", _NEEDLE, str(path)]
    ways = {"ours": Way(with_job), "rg": Way(lambda: int(subprocess.check_output(words)))}
    times = contest(bench.repeat, ways)
    yield against(times, "ours", ["rg"], at_most(1.3), f"text.search, rare literal, {mib(size)}, over rg -j2")
    path.unlink()


def make_text(path: Path, bench: Bench) -> int:
    """Write text of the usual size; returns the size."""
    lines = b"".join(b"line %d of some text, %x\n" % (i, i * 7919) for i in range(100_000))
    size = min(bench.size, _SIZE_MAX)
    with path.open("wb") as stream:
        for start in range(0, size, len(lines)):
            stream.write(lines[: size - start])
    return size
