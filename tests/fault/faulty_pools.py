"""Real pools whose workers and pool hosts find what is armed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ktaskd.host.faults import VARIABLE
from tests.fault.armed_faults import ArmedFaults, armed_faults
from tests.jobs.house import OneHouse, one_house


@contextmanager
def faulty_pools(**changes: Any) -> Iterator[tuple[OneHouse, ArmedFaults]]:
    """The pools, and what arms their faults."""
    with armed_faults() as armed, pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(armed.directory))
        with one_house(**changes) as one:
            yield one, armed
