"""Brings what the workers of one job print and log to this program."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Iterator

from ktask.link.locate import Endpoint
from ktask.own import sockets
from ktask.v1 import calls as wire

_RECEIVE_BYTES = 64 * 1024


@contextlib.contextmanager
def received(endpoint: Endpoint) -> Iterator[str]:
    """Listen inside for workers of a daemon of this user; yield the socket as argument `line` of the job.

    Raises:
        KtaskError: the daemon is not this user's.
    """
    path, listener = sockets.listen(endpoint)
    stop = os.eventfd(0, os.EFD_CLOEXEC)
    thread = threading.Thread(
        target=_serve, args=(listener, stop, endpoint), name="ktask-output", daemon=True
    )
    try:
        thread.start()
        yield wire.line_of(path)
    finally:
        os.eventfd_write(stop, 1)
        thread.join()
        os.close(stop)
        sockets.close(path, listener)


def _serve(listener: socket.socket, stop: int, endpoint: Endpoint) -> None:
    """Send each worker the surroundings, and handle its log records, until `stop` is readable."""
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(stop, selectors.EVENT_READ)
        opened.callback(listener.close)  # so that no worker waits for a thread that has ended
        setup = wire.pack(wire.SETUP, 0, sockets.surroundings_for(endpoint))
        while True:
            # The workers have ended when `stop` is set; handle what they have sent first.
            ready = {key.fd: key for key, _ in selector.select()}
            for key in ready.values():
                if key.fileobj is listener:
                    _accept(listener, selector, setup)
                elif key.data is not None:
                    _receive(key, selector)
            if set(ready) == {stop}:
                break
        for key in list(selector.get_map().values()):
            if key.data is not None:
                _leave(key, selector)


def _accept(listener: socket.socket, selector: selectors.BaseSelector, setup: bytes) -> None:
    try:
        worker, _ = listener.accept()
    except BlockingIOError:
        return
    except OSError:
        # No descriptor is left. Workers go on without a connection once this socket is closed.
        selector.unregister(listener)
        listener.close()
        return
    try:
        worker.setblocking(True)
        sockets.lend_output(worker)
        worker.sendall(setup)
    except OSError:
        worker.close()
        return
    selector.register(worker, selectors.EVENT_READ, wire.Decoder())


def _receive(key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
    worker = key.fileobj
    assert isinstance(worker, socket.socket)
    try:
        data = worker.recv(_RECEIVE_BYTES)
    except OSError:
        data = b""
    if not data:
        _leave(key, selector)
    for kind, _, payload in key.data.feed(data):
        if kind == wire.LOG:
            sockets.log(payload)


def _leave(key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
    assert isinstance(key.fileobj, socket.socket)
    selector.unregister(key.fileobj)
    key.fileobj.close()
