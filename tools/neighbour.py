"""A web server next to work on all CPUs: how many of its requests it still answers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import ktask

WINDOW_S = 2.0
"""Time for which requests are counted."""

_SETTLE_S = 0.5

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"

_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: 1000\\r\\n\\r\\n" + b"x" * 1000
connection, _ = server.accept()
while connection.recv(4096):
    sum(range(2000))
    connection.sendall(answer)
"""

_BURN = "import os, signal\nsignal.alarm(30)\nwhile True: pass"


def show_neighbour(client: ktask.Client) -> None:
    """Print which part of its requests a server answers next to each kind of work."""
    print("\nA web server with one connection, in a session of its own, next to work on all CPUs:\n")
    print("{:<36} {:>14} {:>8}".format("next to", "requests a s", "kept"))
    with _server() as connection:
        _rate(connection)  # to warm up
        alone = 0.0
        ways: list[tuple[str, AbstractContextManager[None]]] = [
            ("nothing", contextlib.nullcontext()),
            ("a job of ktaskd", _job(client)),
            ("nice -n 19, a process for each CPU", _pool()),
        ]
        for name, work in ways:
            with work:
                time.sleep(_SETTLE_S)
                rate = _rate(connection)
            alone = alone or rate
            print(f"{name:<36} {rate:>14.0f} {rate / alone:>8.2f}")


@contextlib.contextmanager
def _server() -> Iterator[socket.socket]:
    words = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as connection:
                yield connection
        finally:
            process.kill()


def _rate(connection: socket.socket) -> float:
    """Requests that are answered in a second."""
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < WINDOW_S:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        left = 1000
        while left > 0:
            left -= len(connection.recv(4096).removeprefix(_HEAD))
        count += 1
    return count / (time.perf_counter() - begin)


@contextlib.contextmanager
def _job(client: ktask.Client) -> Iterator[None]:
    """A job without a client that waits, on as many helpers as may run."""
    job = client.submit("selftest.spin", arg={"ms": 5}, ranges=[(0, 1_000_000, -1)])
    try:
        yield
    finally:
        client.cancel(job)


@contextlib.contextmanager
def _pool() -> Iterator[None]:
    """Plain processes at nice 19, in a session of their own, as of another login."""
    count = len(os.sched_getaffinity(0))
    with contextlib.ExitStack() as end:
        for _ in range(count):
            words = ["nice", "-n", "19", sys.executable, "-c", _BURN]
            process = subprocess.Popen(words, start_new_session=True)
            end.callback(process.wait)
            end.callback(process.send_signal, signal.SIGKILL)
        yield
