"""Fake machines to read pressure of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hosts import FakeHost


@pytest.fixture
def desktop(tmp_path: Path) -> FakeHost:
    return FakeHost.copy("desktop", tmp_path / "host")


@pytest.fixture
def bare(tmp_path: Path) -> FakeHost:
    """Four CPUs, and no groups of others."""
    return FakeHost.copy("cgroup-v1", tmp_path / "host")
