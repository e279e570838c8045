"""The CPU time of a job in all processes that take part, and its messages to and from workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

import ktask
import psutil
from isal.isal_zlib import crc32

from tests.bench.interference.cputime import on_cpu
from tests.bench.interference.line import Line
from tests.bench.interference.programs import needed
from tests.bench.peers.contest import Bench, Way, against, at_most, contest, itself, mib

_STEP_S, _QUIET_S, _SETTLE_S = 0.02, 0.0005, 2.0
"""All is quiet when the processes use less than `_QUIET_S` in each of three steps, or after `_SETTLE_S`."""

_MESSAGE = re.compile(
    r"\b(sendmsg|sendto|write|recvmsg|recvfrom|read)(?:\(| resumed>).*= [1-9][0-9]*$", re.MULTILINE
)
_SENDS = ("sendmsg", "sendto", "write")


def cpu(bench: Bench) -> Iterator[Line]:
    """CPU of client, daemon and workers for file.crc32 of memory, over that of one direct thread."""
    with ktask.memory(bench.size) as region, memoryview(region) as view:
        view[:] = bytes(bench.size)
        pids = [os.getpid(), *_processes(bench.client)]
        bench.client.run("file.crc32", data=region, max_threads=2)
        ways = {
            "job": Way(lambda: _cost(pids, bench.client, region), seconds=itself),
            "direct": Way(lambda: _direct(view), seconds=itself),
        }
        times = contest(bench.repeat, ways)
    name = f"CPU of file.crc32 of {mib(bench.size)} by two workers, again, over one thread"
    yield against(times, "job", ["direct"], at_most(1.1), name)


def _processes(client: ktask.Client) -> list[int]:
    daemon = psutil.Process(client.status().pid)
    return [daemon.pid, *(child.pid for child in daemon.children(recursive=True))]


def _cost(pids: Sequence[int], client: ktask.Client, region: ktask.Memory) -> float:
    before = on_cpu(pids)
    client.run("file.crc32", data=region, max_threads=2)
    until, quiet, last = time.monotonic() + _SETTLE_S, 0, on_cpu(pids)
    while quiet < 3 and time.monotonic() < until:
        time.sleep(_STEP_S)
        now = on_cpu(pids)
        quiet, last = (quiet + 1 if now - last < _QUIET_S else 0), now
    return last - before


def _direct(view: memoryview) -> float:
    begin = time.thread_time()
    crc32(view)
    return time.thread_time() - begin


def messages(bench: Bench) -> Iterator[Line]:
    """Messages between the daemon and two workers for one job, counted by strace in the workers."""
    strace = needed("strace", "strace")
    with ktask.memory(bench.size) as region:
        region[:] = bytes(bench.size)

        def run() -> object:
            return bench.client.run("file.crc32", data=region, max_threads=2)

        run()
        workers = [one.pid for pool in bench.client.status().pools for one in pool.workers if one.pid]
        counts = [_counted(strace, workers, run) for _ in range(bench.repeat)]
    for i, way in enumerate(("to workers", "from workers")):
        values = tuple(float(count[i]) for count in counts)
        yield Line(f"messages {way}, file.crc32 of {mib(bench.size)}", values, "messages", at_most(4))


def _counted(strace: str, workers: Sequence[int], run: Callable[[], object]) -> tuple[int, int]:
    """Messages that the workers received and sent during one job."""
    words = [strace, "-f", "-qq", "-s", "0", "-e", "trace=sendmsg,sendto,write,recvmsg,recvfrom,read"]
    words += [word for pid in workers for word in ("-p", str(pid))]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(1)  # until it is attached, which it does not report
        run()
        process.send_signal(signal.SIGINT)
        _, text = process.communicate()
    return count_messages(text)


def count_messages(text: str) -> tuple[int, int]:
    """Messages received and sent in the output of strace; one that failed or was empty is none."""
    names = _MESSAGE.findall(text)
    sent = sum(name in _SENDS for name in names)
    return len(names) - sent, sent
