"""CPython's test classes, with our executor instead of theirs."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import types
import unittest
from concurrent import futures
from typing import Any

from ktask.own.futures import CallFuture
from ktask.v1.code import RemoteTraceback

from tests.own.cpython import leftout
from tests.own.cpython.standin import Ours, Warm
from tests.own.cpython.theirs import PACKAGE, load

theirs: Any = load()

_PROCESS = types.SimpleNamespace(_RemoteTraceback=RemoteTraceback)


class Futures(types.ModuleType):
    """concurrent.futures, with our classes for those that the tests create."""

    ThreadPoolExecutor = Ours
    process = _PROCESS

    def ProcessPoolExecutor(self, max_workers: int, mp_context: Any = None) -> Any:
        """Our executor; a forking pool next to it has children without our threads."""
        if max_workers == 1:
            return futures.ProcessPoolExecutor(1, mp_context=mp_context)
        return Ours(max_workers)

    def __getattr__(self, name: str) -> Any:
        return getattr(futures, name)


_PROLOGUE = """\
import concurrent.futures, sys
sys.path[:0] = {path!r}
from tests.own.cpython.standin import Ours, Warm
concurrent.futures.Ours = concurrent.futures.Warm = Ours
concurrent.futures.ThreadPoolExecutor = {threads}
"""

_run_program = theirs.assert_python_ok


def _program(flag: str, text: str) -> Any:
    """Run a program of theirs with our executor."""
    threads = "Warm" if "cancel_futures" in text else "Ours"
    path = [os.environ[PACKAGE], os.getcwd()]
    prologue = _PROLOGUE.format(path=path, threads=threads)
    named = {name: os.environ[name] for name in os.environ if name.startswith(("KTASK", "PYTHONPATH"))}
    return _run_program(flag, prologue + text, **named)


theirs.assert_python_ok = _program
theirs.futures = Futures("futures")
theirs.Future = type("Future", (CallFuture,), {})  # under the name that the tests look for


class Mixin:
    """Does the same as their ProcessPoolSpawnMixin and ThreadPoolMixin."""

    executor_type: type[Ours] = Ours
    _testMethodName: str

    def setUp(self) -> None:
        if self._testMethodName in leftout.WARM:
            self.executor_type = Warm
        super().setUp()  # type: ignore[misc]

    def get_context(self) -> Any:
        return multiprocessing.get_context("spawn")

    def _check_crash(self, error: type[BaseException], func: Any, *args: Any, **named: Any) -> None:
        known = leftout.OWN_ERRORS.get(self._testMethodName, error)
        wanted = pickle.UnpicklingError if known == "UnpicklingError" else known
        super()._check_crash(wanted, func, *args, **named)  # type: ignore[misc]


def _made(name: str, *bases: type) -> type[unittest.TestCase]:
    left = leftout.LEFT_OUT.get(name, {})
    body: dict[str, Any] = {test: None for test in left}
    return type(name, (Mixin, *bases), {**body, "__module__": __name__})


def _classes() -> dict[str, type[unittest.TestCase]]:
    """Each of their classes once; those that their module creates per kind of pool become one of ours."""
    mixin, base = theirs.ExecutorMixin, theirs.BaseTestCase
    names = (
        "InitializerMixin",
        "FailingInitializerMixin",
        "ProcessPoolShutdownTest",
        "WaitTests",
        "AsCompletedTests",
        "ProcessPoolExecutorTest",
        "ExecutorDeadlockTest",
    )
    made = {name: _made(name, getattr(theirs, name), mixin, base) for name in names}
    for name in ("ThreadPoolShutdownTest", "ThreadPoolWaitTests", "ThreadPoolExecutorTest"):
        # Tests that the class for processes has as well run only once.
        made[name] = _without(_made(name, getattr(theirs, name)), getattr(theirs, name))
    made["FutureTests"] = type("FutureTests", (theirs.FutureTests,), {"__module__": __name__})
    return made


def _without(case: type[unittest.TestCase], original: type) -> type[unittest.TestCase]:
    for name in dir(original):
        if name.startswith("test") and name not in vars(original):
            setattr(case, name, None)
    return case


globals().update(_classes())
"""Classes by name: a class is pickled by its name, and workers import this module."""

CASES = [globals()[name] for name in _classes()]
