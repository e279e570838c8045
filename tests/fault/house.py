"""A house of real pools whose workers and pool hosts find what is armed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ktaskd.host.faults import VARIABLE
from tests.fault.armory import Armory, armory
from tests.jobs.house import OneHouse, one_house


@contextmanager
def faulty_house(**changes: Any) -> Iterator[tuple[OneHouse, Armory]]:
    """The house, and what arms its faults."""
    with armory() as armed, pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(armed.directory))
        with one_house(**changes) as one:
            yield one, armed
