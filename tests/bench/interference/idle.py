"""Row 7: an idle daemon. Its threads that wake up, and how often.

Counted twice: by the kernel, undisturbed (each voluntary context switch of a
thread is one sleep, and so one wake-up), and under strace. In the daemon every
thread but the first is gRPC's own; its wake-ups are counted apart.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from tests.bench.interference.bench import Bench, attempt
from tests.bench.interference.line import Line
from tests.bench.interference.private_daemon import stopped_well
from tests.bench.interference.programs import Unmeasured, needed
from tests.bench.interference.rivals import cpus
from tests.bench.measure import Goal
from tests.support.real_daemon import Daemon, running

NONE = Goal(0, at_least=False)
_WINDOWS = 6
"""The window is this many times the usual one: 30 s."""
_SETTLE_S = 12.0
"""Keepers end some seconds after their last connection."""

Thread = tuple[int, int]
"""Process and thread id."""


def measure(bench: Bench) -> Iterator[Line]:
    """A daemon that has run one job and has had no connection since."""
    seconds = bench.seconds * _WINDOWS
    config = bench.directory / "row7.toml"
    config.touch()
    with running(bench.directory / "row7", "--config", config) as daemon, stopped_well(daemon):
        _one_job(daemon)
        time.sleep(_SETTLE_S)
        names = roles(daemon)
        yield from attempt("counted by the kernel", lambda: _by_kernel(daemon, names, seconds))
        yield from attempt("strace", lambda: _by_strace(bench, daemon, names, seconds))


def _one_job(daemon: Daemon) -> None:
    import ktask

    with ktask.connect(daemon.place) as client, ktask.memory(1 << 20) as memory:
        client.run("file.crc32", data=memory)


def roles(daemon: Daemon) -> Mapping[Thread, str]:
    """The owner of each thread, for every process of the daemon."""
    found: dict[Thread, str] = {}
    for process in daemon.tree():
        top = process.pid == daemon.process.pid
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            tid = int(task.name)
            name = f"{task.joinpath('comm').read_text().strip()} ({process.pid})"
            if top:
                found[process.pid, tid] = "daemon" if tid == process.pid else "daemon, threads of gRPC"
            else:
                found[process.pid, tid] = "others: " + name
    return found


def _wakes(names: Mapping[Thread, str]) -> dict[Thread, int]:
    found = {}
    for pid, tid in names:
        with suppress(FileNotFoundError, ProcessLookupError):
            found[pid, tid] = voluntary(Path(f"/proc/{pid}/task/{tid}/status").read_text())
    return found


def voluntary(status: str) -> int:
    """Times that a thread has gone to sleep. Source: proc_pid_status(5)."""
    match = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.MULTILINE)
    if match is None:
        raise Unmeasured("/proc/PID/status: no voluntary_ctxt_switches")
    return int(match[1])


def _by_kernel(daemon: Daemon, names: Mapping[Thread, str], seconds: float) -> Iterator[Line]:
    before = _wakes(names)
    time.sleep(seconds)
    after = _wakes(names)
    counts: dict[str, int] = {}
    for thread, count in after.items():
        counts[names[thread]] = counts.get(names[thread], 0) + count - before[thread]
    gone = len(before) - len(after)
    yield from _lines(f"in {seconds:g} s", counts, f"{gone} threads ended meanwhile" if gone else "")


def _lines(what: str, counts: Mapping[str, int], about: str) -> Iterator[Line]:
    """One line for the daemon, gRPC, and all others; other threads that woke up get their own."""
    others = {name: count for name, count in counts.items() if name.startswith("others: ")}
    ours = counts.get("daemon", 0)
    grpc = counts.get("daemon, threads of gRPC", 0)
    yield Line(f"daemon, its own thread, {what}", (float(ours),), "wake-ups", NONE, about)
    yield Line(f"daemon, threads of gRPC, {what}", (float(grpc),), "wake-ups", None, "not ours; not judged")
    about = f"of {len(others)} pool hosts and workers on {len(cpus())} CPUs"
    yield Line(f"all other processes, {what}", (float(sum(others.values())),), "wake-ups", NONE, about)
    for name, count in others.items():
        if count:
            yield Line(f"  {name.removeprefix('others: ')}, {what}", (float(count),), "wake-ups")


# -- strace ---------------------------------------------------------------------------


def _by_strace(bench: Bench, daemon: Daemon, names: Mapping[Thread, str], seconds: float) -> Iterator[Line]:
    """Run `strace -f -C`, which prints each call and the counts of `-c`."""
    program = needed("strace", "strace")
    log = bench.directory / "strace"
    pids = sorted({pid for pid, _ in names})
    words = [program, "-f", "-C", "-tt", "-o", str(log), *(f"-p{pid}" for pid in pids)]
    # On SIGINT, which timeout sends, strace detaches from all processes and writes its table.
    done = subprocess.run(
        ["timeout", "-s", "INT", "-k", "10", str(seconds), *words],
        check=False,
        capture_output=True,
        text=True,
    )
    text = log.read_text() if log.exists() else ""
    if "% time" not in text + done.stderr:
        raise Unmeasured(f"strace: {done.stderr.strip()[-200:] or 'printed no table'}")
    by_tid = {tid: names[pid, tid] for pid, tid in names}
    counts: dict[str, int] = dict.fromkeys(names.values(), 0)
    for tid, count in returns(text).items():
        name = by_tid.get(tid, f"others: new thread ({tid})")
        counts[name] = counts.get(name, 0) + count
    yield from _lines(f"strace, in {seconds:g} s", counts, calls(text))


_CALL = re.compile(r"^(\d+)\s+\d\d:\d\d:\d\d\.\d+ (.*)$", re.MULTILINE)
_SLEEPING = re.compile(
    r"<\.\.\. (epoll_wait|epoll_pwait2?|poll|ppoll|select|pselect6|futex|clock_nanosleep|nanosleep|read"
    r"|recvmsg|recvfrom|rt_sigtimedwait|pause|wait4|waitid|accept4?) resumed>"
)


def returns(text: str) -> dict[int, int]:
    """By thread, the number of sleeping calls that returned. strace shows such a call in two parts.

    Calls that strace itself interrupted at its beginning or end do not count.
    """
    found: dict[int, int] = {}
    for match in _CALL.finditer(text):
        tid, what = int(match[1]), match[2]
        if _SLEEPING.match(what) and "ERESTART" not in what and "detached" not in what:
            found[tid] = found.get(tid, 0) + 1
    return found


def calls(text: str) -> str:
    """The calls of strace's table, most frequent first."""
    _, _, rest = text.partition("% time")
    found = []
    for line in rest.splitlines():
        words = line.split()
        if len(words) >= 5 and words[0][:1].isdigit() and words[-1] != "total":
            found.append((int(words[3]), words[-1]))
    shown = ", ".join(f"{name} {count}" for count, name in sorted(found, reverse=True)[:8])
    return f"calls of all processes: {shown or 'none'}"
