"""Real pools whose workers and pool hosts find what is armed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ktaskd.host.faults import VARIABLE
from tests.fault.armed_faults import ArmedFaults, armed_faults
from tests.jobs.realjobs import SharedJobs, shared_jobs


@contextmanager
def faulty_pools(**changes: Any) -> Iterator[tuple[SharedJobs, ArmedFaults]]:
    """The house, and what arms its faults."""
    with armed_faults() as armed, pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(armed.directory))
        with shared_jobs(**changes) as one:
            yield one, armed
