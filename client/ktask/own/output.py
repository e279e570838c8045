"""What the workers of one job print and log, brought to this program."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Iterator

from ktask.link.locate import Place
from ktask.own.bursts import lend_output, listen, log, surroundings_for
from ktask.v1 import calls as wire

_RECEIVE_BYTES = 64 * 1024


@contextlib.contextmanager
def brought(place: Place) -> Iterator[str]:
    """Listen, while inside, for workers of a daemon of this user; the socket as the argument `line` has it.

    Raises:
        KtaskError: the daemon is not this user's.
    """
    path, listener = listen(place)
    stop = os.eventfd(0, os.EFD_CLOEXEC)
    thread = threading.Thread(target=_serve, args=(listener, stop, place), name="ktask-output", daemon=True)
    try:
        thread.start()
        yield wire.line_of(path)
    finally:
        os.eventfd_write(stop, 1)
        thread.join()
        os.close(stop)
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(path)


def _serve(listener: socket.socket, stop: int, place: Place) -> None:
    """Send each worker the surroundings, and handle what it logs, until told to stop."""
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(stop, selectors.EVENT_READ)
        opened.callback(listener.close)  # nobody waits for a thread that has ended
        setup = wire.pack(wire.SETUP, 0, surroundings_for(place))
        while True:
            # What has come is handled before the end, which the workers have seen by then.
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
        # No descriptor is left: the worker goes on without a line when this one is closed.
        selector.unregister(listener)
        listener.close()
        return
    try:
        worker.setblocking(True)
        lend_output(worker)
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
            log(payload)


def _leave(key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
    assert isinstance(key.fileobj, socket.socket)
    selector.unregister(key.fileobj)
    key.fileobj.close()
