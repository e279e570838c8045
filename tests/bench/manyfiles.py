"""Digests of many small files: `ktask manifest` beside sha256sum and b3sum, interleaved, results compared."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.measure import Figure, Goal, Spread, in_turn, ratios, table
from tools.private import private_daemon, temporary_directory

_FILES_PER_DIRECTORY = 1000
_KIB = 1024
_SMALL = 16 * _KIB
_COMMAND_BYTES = 1_000_000

KTASK = Path(sys.executable).parent / "ktask"


@dataclass(frozen=True, slots=True)
class Run:
    """One command over all files: seconds, CPU seconds and MiB, and its digests by name."""

    wall_s: float
    client_s: float
    daemon_s: float
    """CPU of the daemon and its processes; 0 for other programs."""
    client_mib: float
    digests: dict[str, str]


def make_files(directory: Path, count: int, size: int) -> list[Path]:
    """Make files with different contents; they are in the page cache afterwards."""
    paths = [directory / f"{i // _FILES_PER_DIRECTORY:04}" / f"{i:07}" for i in range(count)]
    block = os.urandom(size)
    for i, path in enumerate(paths):
        if i % _FILES_PER_DIRECTORY == 0:
            path.parent.mkdir()
        path.write_bytes(i.to_bytes(8, "little") + block[8:])
    return paths


def ours(runtime: str, directory: Path, algorithm: str) -> Run:
    """`ktask manifest` with a daemon that runs."""
    command = [str(KTASK), "manifest", "--socket", runtime, "--algorithm", algorithm]
    return _run([*command, str(directory)], b"", lambda: _cpu_below(os.getpid()))


def with_xargs(paths: Sequence[Path], program: str, options: Sequence[str]) -> Run:
    """A program over all files, as xargs runs it."""
    names = b"".join(os.fsencode(path) + b"\0" for path in paths)
    return _run(["xargs", "-0", *options, program], names)


def _run(command: Sequence[str], stdin: bytes, daemon_cpu: Callable[[], float] = lambda: 0.0) -> Run:
    """Run a command, and wait for it as a shell does."""
    cpu_s = daemon_cpu()
    with tempfile.TemporaryFile() as names:
        names.write(stdin)
        names.seek(0)
        begin = time.perf_counter()
        with subprocess.Popen(command, stdin=names, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - begin
    if process.returncode:
        raise RuntimeError(f"{command[0]}: status {process.returncode}")
    client_s = usage.ru_utime + usage.ru_stime
    return Run(wall_s, client_s, daemon_cpu() - cpu_s, usage.ru_maxrss / _KIB, _parse(output))


def _parse(output: bytes) -> dict[str, str]:
    lines = (line.split("  ", 1) for line in os.fsdecode(output).splitlines())
    return {name: digest for digest, name in lines}


def _cpu_below(pid: int) -> float:
    """CPU seconds of all living descendants of a process, itself not included."""
    times = [process.cpu_times() for process in psutil.Process(pid).children(recursive=True)]
    return sum(one.user + one.system for one in times)


def sha256_rows(
    runtime: str, directory: Path, paths: Sequence[Path], rounds: int, per_run: int = 500
) -> Iterator[Figure]:
    """`ktask manifest` beside sha256sum, two processes at a time.

    Args:
        per_run: files for each process; 0 = xargs decides.
    """
    options = ["-P2", *(["-n", str(per_run)] if per_run else [])]
    small = paths[0].stat().st_size < _SMALL
    yield from _compared(
        " ".join(["xargs", *options, "sha256sum"]),
        lambda: ours(runtime, directory, "sha256"),
        lambda: with_xargs(paths, "sha256sum", options),
        rounds,
        Goal(1.0 if small else 0.5, at_least=False),
    )


def blake3_rows(runtime: str, directory: Path, paths: Sequence[Path], rounds: int) -> Iterator[Figure]:
    """`ktask manifest --algorithm blake3` beside b3sum, which must be installed."""
    yield from _compared(
        "b3sum",
        lambda: ours(runtime, directory, "blake3"),
        lambda: with_xargs(paths, "b3sum", ["-s", str(_COMMAND_BYTES)]),
        rounds,
        Goal(1.0, at_least=False),
    )


def _compared(
    label: str, mine: Callable[[], Run], theirs: Callable[[], Run], rounds: int, goal: Goal
) -> Iterator[Figure]:
    a, b = in_turn(rounds, mine, theirs)
    for one, other in zip(a, b, strict=True):
        if one.digests != other.digests:
            raise RuntimeError(f"ktask manifest and {label} disagree")
    walls = [[run.wall_s for run in runs] for runs in (a, b)]
    yield Figure(f"ktask manifest / {label}", ratios(*walls), "", goal)
    yield Figure("  ktask manifest", Spread.of(walls[0]), "s")
    yield Figure(f"  {label}", Spread.of(walls[1]), "s")
    yield Figure("  CPU of the client", Spread.of([run.client_s for run in a]), "s")
    yield Figure("  peak memory of the client", Spread.of([run.client_mib for run in a]), "MiB")
    yield Figure("  CPU of daemon, keeper and workers", Spread.of([run.daemon_s for run in a]), "s")
    yield Figure(f"  CPU of {label}", Spread.of([run.client_s for run in b]), "s")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.manyfiles", description=__doc__)
    parser.add_argument("--files", type=int, default=8192, metavar="N", help="number of files (8192)")
    parser.add_argument("--size", type=int, default=65536, metavar="BYTES", help="bytes of each file (65536)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="measured rounds (5)")
    words = "files for each sha256sum; 0: xargs decides (500)"
    parser.add_argument("--per-run", type=int, default=500, metavar="N", help=words)
    options = parser.parse_args(argv)
    with temporary_directory("ktaskd-bench-") as place, private_daemon(place) as runtime:
        directory = place / "files"
        directory.mkdir()
        paths = make_files(directory, options.files, options.size)
        figures = list(sha256_rows(runtime, directory, paths, options.repeat, options.per_run))
        if shutil.which("b3sum"):
            figures += blake3_rows(runtime, directory, paths, options.repeat)
        print(f"{options.files} files of {options.size} bytes\n{table(figures)}")
        if not shutil.which("b3sum"):
            print("b3sum: left out, since it is not installed (apt-get install b3sum)")
        for process in psutil.Process().children():
            print(f"peak memory of the daemon: {_peak_mib(process.pid):.0f} MiB")
    return 0


def _peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / _KIB
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
