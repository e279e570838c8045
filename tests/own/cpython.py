"""CPython's own tests of executors, for ours: those that apply to any of them.

Needs test_concurrent_futures of this version of Python, which is not installed everywhere
(Debian has it in libpython3.11-testsuite, as /usr/lib/python3.11/test):

    KTASKD_SOCKET=DIRECTORY_OF_A_DAEMON python -m tests.own.cpython DIRECTORY_OF_THE_TESTS
"""

from __future__ import annotations

import importlib
import os
import sys
import unittest
from typing import Any, ClassVar

import ktask

# By itself, and not as a part of the package `test`: workers find modules where we do.
sys.path.append(sys.argv.pop(1) if len(sys.argv) > 1 else "/usr/lib/python3.11/test")
theirs: Any = importlib.import_module("test_concurrent_futures")

TARGET = os.environ["KTASKD_SOCKET"]


class Ours(ktask.Executor):
    """With a daemon that was named."""

    def __init__(self, max_workers: int | None = None, **_: Any) -> None:
        super().__init__(max_workers, target=TARGET)


class Mixin:
    """As theirs have it."""

    executor_type = Ours
    worker_count = 5
    executor_kwargs: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.executor = Ours(self.worker_count)

    def tearDown(self) -> None:
        self.executor.shutdown(wait=True)
        super().tearDown()  # type: ignore[misc]


NOT_OURS = {
    "test_hang_gh83386": "starts a pool in a program of its own",
    "test_interpreter_shutdown": "starts a pool in a program of its own; here as test_program_*",
    "test_submit_after_interpreter_shutdown": "calls become impossible when threads do",
    "test_max_workers_too_large": "a limit of Windows",
    "test_ressources_gced_in_workers": "needs a manager of multiprocessing and the start method",
    "test_saturation": "counts a pool's own semaphores",
    "test_idle_process_reuse_one": "counts a pool's own processes",
    "test_idle_process_reuse_multiple": "counts a pool's own processes",
    "test_max_tasks_per_child": "an argument of pools",
    "test_max_tasks_per_child_defaults_to_spawn_context": "an argument of pools",
    "test_max_tasks_early_shutdown": "an argument of pools",
    "test_traceback": "names a pool's own class; here as test_exception_*",
    "test_cancel_futures": "supposes that some calls are begun at once, before there is a worker",
    "test_killed_child": "kills a pool's own process, which breaks that pool; here as test_worker_*",
}


def make(name: str, tests: type) -> type[unittest.TestCase]:
    """A case of their tests with our executor."""
    body = {test: None for test in NOT_OURS if hasattr(tests, test)}
    return type(name, (Mixin, tests, theirs.BaseTestCase), body)


def load_tests(loader: unittest.TestLoader, *_: object) -> unittest.TestSuite:
    suite = unittest.TestSuite()
    for name in (
        "WaitTests",
        "AsCompletedTests",
        "ExecutorTest",
        "ProcessPoolExecutorTest",
        "ExecutorShutdownTest",
    ):
        suite.addTests(loader.loadTestsFromTestCase(make(name, getattr(theirs, name))))
    return suite


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
