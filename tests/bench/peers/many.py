"""Digests of many files by `ktask manifest`, over xargs with sha256sum, and b3sum."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from tests.bench.interference.line import Line
from tests.bench.interference.programs import needed
from tests.bench.peers.contest import Bench, Way, against, at_most, contest

_KTASK = Path(sys.executable).with_name("ktask")
_BLOCK = 4096
_FLAT = 1.25
"""Memory is flat if it grows by less than a quarter."""


def medium(bench: Bench) -> Iterator[Line]:
    """Files of 64 KiB, by both algorithms."""
    count = bench.files[0]
    place = _files(bench.directory / "many", count, 64 << 10)
    size = f"{count} files of 64 KiB"
    times = contest(bench.repeat, {"manifest": _ours(bench, place), "xargs -P2": _sha256sum(place)})
    yield against(times, "manifest", ["xargs -P2"], at_most(0.5), f"{size}, sha256, over xargs -P2 sha256sum")
    ways = {"manifest": _ours(bench, place, "blake3"), "b3sum": _b3sum(place)}
    times = contest(bench.repeat, ways)
    yield against(times, "manifest", ["b3sum"], at_most(1.0), f"{size}, blake3, over b3sum")
    shutil.rmtree(place)


def small(bench: Bench) -> Iterator[Line]:
    """More files of 4 KiB, and the memory of daemon and client beside that for a tenth of them."""
    count = bench.files[1]
    daemon = psutil.Process(bench.client.status().pid)
    few = _files(bench.directory / "few", count // 10, _BLOCK)
    peak_few = _peak(bench, few)
    shutil.rmtree(few)
    before = daemon.memory_info().rss
    place = _files(bench.directory / "many", count, _BLOCK)
    times = contest(bench.repeat, {"manifest": _ours(bench, place), "xargs -P2": _sha256sum(place)})
    name = f"{count} files of 4 KiB, sha256, over xargs -P2 sha256sum"
    yield against(times, "manifest", ["xargs -P2"], at_most(1.0), name)
    grown = daemon.memory_info().rss / before
    yield Line(
        "  memory of the daemon, after over before", (grown,), "", at_most(_FLAT), f"{before >> 20} MiB"
    )
    peak = _peak(bench, place)
    about = f"{peak_few >> 20} and {peak >> 20} MiB"
    name = f"  most memory of the client, over that for {count // 10} files"
    yield Line(name, (peak / peak_few,), "", at_most(_FLAT), about)
    shutil.rmtree(place)


def _files(place: Path, count: int, size: int) -> Path:
    """A directory with this many different files."""
    for number in range(count):
        directory = place / f"{number // 1000:03}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number:06}").write_bytes(number.to_bytes(8) * (size // 8))
    return place


def _ours(bench: Bench, place: Path, algorithm: str = "sha256") -> Way:
    return Way(partial(_digests, _words(bench, place, algorithm)))


def _words(bench: Bench, place: Path, algorithm: str = "sha256") -> list[str]:
    return [str(_KTASK), "--socket", bench.runtime, "manifest", "--algorithm", algorithm, str(place)]


def _sha256sum(place: Path) -> Way:
    words = "find {} -type f -print0 | sort -z | xargs -0 -P2 -n 500 sha256sum"
    return Way(partial(_digests, ["sh", "-c", words.format(place)]))


def _b3sum(place: Path) -> Way:
    program = needed("b3sum", "b3sum")
    words = f"find {place} -type f -print0 | sort -z | xargs -0 {program}"
    return Way(partial(_digests, ["sh", "-c", words]))


def _digests(words: list[str]) -> list[str]:
    """The lines that a program prints, sorted, without comments."""
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return sorted(line for line in done.stdout.splitlines() if line and not line.startswith("#"))


def _peak(bench: Bench, place: Path) -> int:
    """The most memory that the command has had, in bytes."""
    words = _words(bench, place)
    pid = os.posix_spawn(
        words[0], words, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", 1, 0)]
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"ktask manifest: wait status {status}")
    return usage.ru_maxrss << 10
