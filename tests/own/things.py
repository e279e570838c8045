"""Functions that tests call in workers, which find this module as the tests do."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np


def square(number: int) -> int:
    return number * number


def reverse(data: bytes) -> bytes:
    return data[::-1]


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("lives on")


def leave(*_: object) -> NoReturn:
    raise SystemExit(3)


def begin_and_wait(begun: Path, go_on: Path) -> int:
    """Report that the call has begun, wait for permission to end; return the worker's process id."""
    begun.write_text(str(os.getpid()))
    while not go_on.exists():
        time.sleep(0.005)
    return os.getpid()


def alone(mark: Path) -> bool:
    """Whether no other call runs this at the same time."""
    try:
        mark.open("x").close()
    except FileExistsError:
        return False
    for _ in range(1000):
        os.sched_yield()
    mark.unlink()
    return True


def burn_if_helper(place: Path) -> str:
    """Report that the call has begun; a helper then burns CPU time on demand, a lead only waits."""
    (place / f"{os.getpid()}").touch()
    helper = os.sched_getscheduler(0) == os.SCHED_IDLE
    while not (place / ("burn" if helper else "end")).exists():
        time.sleep(0.005)
    until_s = time.thread_time() + 0.3
    while helper and time.thread_time() < until_s:
        pass
    return "helper" if helper else "lead"


def graph() -> dict[str, Any]:
    """Some work for dask: products, reductions and a selection over the blocks of a matrix."""
    array = importlib.import_module("dask.array")
    x = array.from_array(np.random.default_rng(7).normal(size=(400, 300)), chunks=(100, 100))
    return {"cov": (x.T @ x) / 400, "std": x.std(axis=0), "top": array.topk(x.ravel(), 5)}


def singular_values(seed: int) -> np.ndarray:
    """Some work for joblib."""
    return np.linalg.svd(np.random.default_rng(seed).normal(size=(120, 120)), compute_uv=False)


class Marked(Exception):
    """An exception whose class takes two arguments, which pickle does not pass."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Unspeakable(Exception):
    """An exception that can neither be printed nor pickled."""

    def __str__(self) -> NoReturn:
        raise ValueError("not even this")

    def __reduce__(self) -> NoReturn:
        raise TypeError("will not be pickled")


def raise_it(error: BaseException) -> NoReturn:
    raise error


class WontPickle:
    def __reduce__(self) -> NoReturn:
        raise TypeError("will not be pickled")


class WontUnpickle:
    def __reduce__(self) -> tuple[Any, ...]:
        return (_refuse, ())


class KillsWhereUnpickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os._exit, (1,))


class ExitsWhereUnpickled:
    """An object whose unpickling in the program raises SystemExit."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, (5,))


def _refuse() -> NoReturn:
    raise ValueError("will not be unpickled")


def put(queue: Any, value: object) -> None:
    queue.put(value)


def pid_of(_: object) -> int:
    return os.getpid()


def note_a_call(place: str) -> None:
    """Append one character to the file of this process."""
    with open(os.path.join(place, str(os.getpid())), "a") as file:
        file.write("x")


def leave_by_an_error() -> None:
    raise ZeroDivisionError("on purpose")


def fail_a_job(place: str) -> None:
    ktask = importlib.import_module("ktask")
    with ktask.connect(place) as client, ktask.memory(4096) as memory:
        client.run(lambda data, start, end, arg: 1 / 0, data=memory)


def seen_of(array: np.ndarray, i: int) -> tuple[str, str, int]:
    """An array as a task sees it: its type, the file that it is mapped from, one of its values."""
    return type(array).__name__, str(getattr(array, "filename", "") or ""), int(array[i])


def same(value: Any) -> Any:
    return value


def fail_with(array: np.ndarray) -> NoReturn:
    raise ValueError(f"no such thing among {len(array)}")


def leaves(depth: int, width: int) -> int:
    """Count the innermost calls of executors within calls of executors, `width` in each."""
    if depth == 0:
        return 1
    with importlib.import_module("ktask").Executor(width) as executor:
        return sum(executor.map(leaves, [depth - 1] * width, [width] * width))


class Fails:
    @classmethod
    def as_asked(cls, number: int) -> NoReturn:
        raise LookupError(number)  # as asked


def where_from(array: np.ndarray) -> str:
    """Number of the file that an array of a call is mapped from; "" if it is not mapped from one."""
    at = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        edges, _, _, _, number, *name = line.split()
        start, end = (int(edge, 16) for edge in edges.split("-"))
        if start <= at < end and "memfd:ktask-call" in " ".join(name):
            return number
    return ""


def where_from_and_changed(array: np.ndarray) -> tuple[str, np.ndarray]:
    array += 1
    return where_from(array), array


def last_of(array: np.ndarray) -> int:
    return int(array[-1])


def middle_of(array: np.ndarray) -> np.ndarray:
    return array[len(array) // 4 : -len(array) // 4]


_KEPT: dict[str, Any] = {}


def keep(value: Any) -> None:
    _KEPT["value"] = value


def kept_sum() -> float:
    return float(_KEPT["value"].sum())


def memory_left(_: object = None) -> int:
    """Mappings and descriptors of calls' memory in this process."""
    mapped = Path("/proc/self/maps").read_text().count("ktask-call")
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return mapped + sum("ktask-call" in os.readlink(link) for link in links if os.path.lexists(link))


def dies_at_200(item: int) -> int:
    if item == 200:
        die()
    return item
