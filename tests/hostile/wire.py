"""Bytes on a socket of the daemon: garbage, and the record of what a well-behaved client sends."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ktask.v1 import jobs_pb2 as pb

from tests.hostile.attacked_daemon import dialled
from tests.support.real_daemon import PATIENCE_S, Daemon, connected, spec

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\4" + bytes(5)


def garbage(rng: random.Random) -> Iterator[bytes]:
    """Bytes that are no HTTP/2, or almost."""
    yield from (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PREFACE[:10] + b"x" * 100, b"\0" * 1000, b"\n")
    for _ in range(30):
        frame = struct.pack(">I", rng.randrange(1 << 14))[1:] + rng.randbytes(6 + rng.randrange(200))
        yield PREFACE + SETTINGS + frame
        yield PREFACE + frame
        yield rng.randbytes(rng.randrange(1, 3000))


def pushed(sock: socket.socket, data: bytes) -> None:
    """Send as much as the other side takes."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(data)


def drained(sock: socket.socket) -> None:
    """Read until the other side closes."""
    sock.shutdown(socket.SHUT_WR)
    while True:
        with contextlib.suppress(ConnectionResetError):
            if sock.recv(65536):
                continue
        return


def recorded(path: Path, place: Path, talk: Callable[[Path], None]) -> bytes:
    """Record what a well-behaved client sends to a socket, byte by byte."""
    said = bytearray()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(place))
        listener.listen()

        def relay() -> None:
            client, _ = listener.accept()
            with client, dialled(path) as inner:
                back = threading.Thread(target=_pump, args=(inner, client))
                back.start()
                with contextlib.suppress(ConnectionResetError):
                    while data := client.recv(65536):
                        said.extend(data)
                        inner.sendall(data)
                inner.shutdown(socket.SHUT_WR)
                back.join()

        thread = threading.Thread(target=relay)
        thread.start()
        talk(place)
        thread.join()
    place.unlink()
    return bytes(said)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)


def record_good_call(daemon: Daemon) -> bytes:
    """All bytes of one Run that succeeds."""

    def talk(path: Path) -> None:
        with connected(path) as stubs:
            run = pb.RunRequest(spec=spec("selftest.noop", ranges=[{"length": "1"}]))
            assert stubs.jobs.Run(run, timeout=PATIENCE_S).job.state == pb.JOB_STATE_SUCCEEDED

    return recorded(daemon.socket, daemon.place.parent / "recorder", talk)
