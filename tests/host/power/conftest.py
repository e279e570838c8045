"""A fake laptop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hosts import FakeHost


@pytest.fixture
def laptop(tmp_path: Path) -> FakeHost:
    return FakeHost.copy("laptop-battery", tmp_path / "host")
