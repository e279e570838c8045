"""A test that wants the machine to itself waits for the others, and new ones do not overtake it."""

from __future__ import annotations

import fcntl
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support import alone
from tests.support.alone import has_the_machine
from tests.support.real_daemon import until


@pytest.fixture(autouse=True)
def locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files other than those of the current test run."""
    place = tmp_path_factory.mktemp("locks")
    for name in ("_GATE", "_MACHINE"):
        (place / name).touch()
        monkeypatch.setattr(alone, name, place / name)


class Visitor(threading.Thread):
    """Holds the machine until it is released."""

    def __init__(self, wants_it_alone: bool) -> None:
        super().__init__()
        self.inside, self.leave = threading.Event(), threading.Event()
        self._alone = wants_it_alone
        self.start()

    def run(self) -> None:
        with alone.held(self._alone):
            self.inside.set()
            self.leave.wait()

    def go(self) -> None:
        self.leave.set()
        self.join()


def test_machine_when_one_wants_it_alone_then_after_those_inside_and_before_those_behind() -> None:
    first, second = Visitor(False), Visitor(False)
    assert first.inside.wait(30)
    assert second.inside.wait(30)
    single = Visitor(True)
    until(lambda: not _is_free(alone._GATE), "it waits at the gate")
    late = Visitor(False)
    first.go()
    assert not single.inside.is_set()
    second.go()
    assert single.inside.wait(30)
    assert not late.inside.is_set()
    single.go()
    assert late.inside.wait(30)
    late.go()


def test_machine_when_tests_run_one_by_one_then_nothing_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    assert isinstance(has_the_machine(alone=True), nullcontext)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    with has_the_machine(alone=True):
        assert not _is_free(alone._MACHINE)
    assert _is_free(alone._MACHINE)


def _is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
