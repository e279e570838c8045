"""The ground of every test: nothing is left behind, and other users are real.

Each test must end with the children, descriptors and threads that it began
with. Processes further down are found at the end of the run, by a mark in
their environment.

Guards: I7, S10
"""

from __future__ import annotations

import compileall
import gc
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.support.alone import has_the_machine, is_parallel
from tests.support.leaks import Footprint, marked_processes, wait_until_none
from tests.support.slow import is_slow
from tests.support.users import REPOSITORY, OtherUsers, checkout_is_open, reachable_directory

MARK = "KTASKD_TEST_RUN"
NEEDS: dict[str, tuple[str, Callable[[], bool]]] = {
    "other_uid": ("root, to act as another user", lambda: os.geteuid() == 0),
    "open_checkout": ("a checkout and an interpreter that other users can read", checkout_is_open),
    "dbus_daemon": ("dbus-daemon, to run a private bus", lambda: shutil.which("dbus-daemon") is not None),
}
"""By marker: a requirement, and whether it is met. Checked only if a test has the marker."""


def pytest_configure(config: pytest.Config) -> None:
    """Mark every process that a test will start, and give it the signals of a foreground job.

    Each xdist worker has its own mark. A shell has its background jobs ignore SIGINT and SIGQUIT,
    and nohup has its command ignore SIGHUP; each program that a test starts would inherit that.
    """
    os.environ[MARK] = uuid.uuid4().hex
    sys.dont_write_bytecode = False  # or every run would have all asserts rewritten again, for seconds
    if not is_parallel():
        # Many processes start in a run, and each would compile what has no byte code, as where
        # PYTHONDONTWRITEBYTECODE is set: half of the CPU time that a daemon takes to come up.
        for package in ("ktaskd", "client"):
            compileall.compile_dir(REPOSITORY / package, quiet=2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Leave what will never go (modules, tests) out of all looks of the garbage collector from now on."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow; leave out what this user cannot do, and what this machine has no program for."""
    for item in items:
        if is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)
    for marker, (need, is_there) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_there():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=f"needs {need}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out; pytest itself only counts it."""
    skipped = terminalreporter.getreports("skipped")
    for marker, (need, is_there) in NEEDS.items():
        names = sorted(report.nodeid for report in skipped if marker in report.keywords)
        if names and not is_there():
            terminalreporter.section(f"{len(names)} left out: needs {need}")
            for name in names:
                terminalreporter.write_line(name)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # so that no time limit counts the wait
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test in parallel with those of other processes, or alone."""
    with has_the_machine(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _no_process_after_the_run() -> Iterator[None]:
    """Check that the run ends with no process below it, however far down."""
    yield
    left = wait_until_none(lambda: marked_processes(MARK, os.environ[MARK]))
    assert not left, "processes outlived the tests:\n" + "\n".join(left)


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    """Check that a test ends with the children, descriptors and threads that it began with."""
    before = Footprint.take()
    yield
    left = wait_until_none(before.differences)
    assert not left, "the test left behind:\n" + "\n".join(left)


@pytest.fixture
def reachable_dir() -> Iterator[Path]:
    """A directory that every user can enter (0755), removed afterwards.

    pytest's own tmp_path cannot be entered by another user.
    """
    with reachable_directory() as path:
        yield path


@pytest.fixture(scope="session")
def run_as() -> Iterator[OtherUsers]:
    """`run_as(uid, words_or_code)`: programs as other users. For tests marked other_uid."""
    with reachable_directory() as path:
        yield OtherUsers(path)


@pytest.fixture(scope="session")
def other_python(run_as: OtherUsers) -> Path:
    """An interpreter that any user can run, with ktask, ktaskd and grpc importable."""
    return run_as.interpreter
