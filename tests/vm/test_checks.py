"""The checks in the virtual machine, each a test; all of them share one machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.vm import image
from tests.vm.__main__ import files
from tests.vm.checks import names
from tests.vm.machine import Died, Result, boot

PATIENCE_S = 900.0
"""Seconds for one check; a silent machine is given up earlier."""


class Machine:
    """Boots the machine in a thread and collects its results."""

    def __init__(self) -> None:
        self._results: dict[str, Result] = {}
        self._changed = threading.Condition()
        self._why = ""
        self._thread = threading.Thread(target=self._boot, daemon=True)
        self._thread.start()

    def _boot(self) -> None:
        why = "the machine ended before this check"
        try:
            boot(files(), "checks", self._add)
        except (image.CannotMake, Died) as error:
            why = str(error)
        with self._changed:
            self._why = why
            self._changed.notify_all()

    def _add(self, result: Result) -> None:
        with self._changed:
            self._results[result.name] = result
            self._changed.notify_all()

    def result(self, name: str) -> Result:
        """Wait for the result of a check."""
        with self._changed:
            self._changed.wait_for(lambda: name in self._results or self._why, PATIENCE_S)
            failed = [result for result in self._results.values() if not result.ok]
            detail = "\n".join([self._why, *(result.detail for result in failed)])
            return self._results.get(name) or Result(name, ok=False, detail=detail or "no answer")

    def close(self) -> None:
        self._thread.join(PATIENCE_S)


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.close()


@pytest.mark.timeout(2 * PATIENCE_S)
@pytest.mark.parametrize("name", ["install", *names()])
def test_check(machine: Machine, name: str, record_property: Callable[[str, object], None]) -> None:
    result = machine.result(name)
    record_property("figure", result.figure)
    record_property("seconds", result.seconds)
    assert result.ok, f"{name}: {result.detail}"
