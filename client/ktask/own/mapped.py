"""Large arrays of a joblib run, handed to workers as files that they map.

An array larger than `max_nbytes` is written once in a run, and each task that uses it gets the name
of the file. joblib's own code does the mapping, as for its process backends (`_memmapping_reducer`):
the same arrays, in the same directory, in the same mode.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import sys
import threading
from collections import ChainMap
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ktask.v1 import code, parcels

try:
    from joblib._memmapping_reducer import TemporaryResourcesManager, get_memmapping_reducers
except ImportError:  # not a public module; without it arrays are pickled like everything else
    TemporaryResourcesManager = get_memmapping_reducers = None

Reducers = Mapping[type, Callable[[Any], Any]]

Buffer = pickle.PickleBuffer | memoryview
"""One before it is sent, the other one afterwards."""

Reduced = tuple[bytes, list[Buffer]]
"""A pickle, and its large buffers."""

_USED = ("max_nbytes", "mmap_mode", "verbose")


class Mapped:
    """The files of one run.

    Args:
        options: those that joblib passes to a backend: `max_nbytes` (bytes; None = map nothing),
            `mmap_mode` (None = map nothing), `temp_folder`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Create no file before a task needs one."""
        self._lock = threading.Lock()
        self._place = options.get("temp_folder")
        self._folders: Any = None
        self._given: Reducers = {}
        self._returned: Reducers = {}
        if get_memmapping_reducers is None or options.get("mmap_mode") is None:
            return
        self._given, self._returned = get_memmapping_reducers(
            temp_folder_resolver=self._folder,
            # Workers have no file tracker in common with this program, which removes all files at the end.
            unlink_on_gc_collect=False,
            **{name: options[name] for name in _USED if name in options},
        )

    def _folder(self) -> str:
        """The directory of the files; a process of joblib removes it if this process is killed."""
        if self._folders is None:
            self._folders = TemporaryResourcesManager(self._place)
        return str(self._folders.resolve_temp_folder_name())

    def task(self, function: Callable[[], Any]) -> tuple[Reduced, Reducers]:
        """Return the arguments of `run` for a task; raises what pickling raises."""
        with self._lock:  # so that two threads do not write the same array
            return _dumps(function, self._given), self._returned

    def close(self) -> None:
        """Remove the files. A worker that still has one mapped keeps its contents."""
        if self._folders is not None:
            self._folders._clean_temporary_resources(allow_non_empty=True)


def run(task: Reduced, returned: Reducers, environ: Mapping[str, str], threads: int | None) -> Reduced:
    """In a worker: run a task and return its result for `loaded`; arrays of the run's files are copied.

    Args:
        environ: limits of threads, for libraries that this task is the first to load.
        threads: the same limit as the program has given it, for the BLAS that the worker had loaded
            before; None = one thread.
    """
    os.environ.update(environ)
    with _blas_threads(threads):
        value = loaded(task)()
    return _dumps(value, returned)


def _blas_threads(count: int | None) -> AbstractContextManager[object]:
    """Limit the threads of BLAS in a block; only threadpoolctl can, as it can for other backends."""
    if count is None or "numpy" not in sys.modules:
        return nullcontext()
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpoolctl.threadpool_limits(count, user_api="blas")
    return limits


def loaded(reduced: Reduced) -> Any:
    """Return the value; raises what unpickling raises."""
    pickled, buffers = reduced
    return pickle.loads(pickled, buffers=buffers)


def _dumps(value: Any, reducers: Reducers) -> Reduced:
    pickler = code.pickler()
    # A pickler class reads its table when it is created, so each table needs a class.
    table = ChainMap(dict(reducers), pickler.dispatch_table)
    stream, buffers = io.BytesIO(), list[Buffer]()

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        """Whether a buffer goes into the pickle; the executor has a faster way for large ones."""
        with buffer.raw() as data:
            small = data.nbytes < parcels.LARGE_BYTES
        if not small:
            buffers.append(buffer)
        return small

    made = type("Pickler", (pickler,), {"dispatch_table": table})
    made(stream, pickle.HIGHEST_PROTOCOL, buffer_callback=is_small).dump(value)
    return stream.getvalue(), buffers
