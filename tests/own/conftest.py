"""Fixtures: a daemon of this user, with a client, an executor and joblib."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ktask
import pytest

from tests.own.blocker import Blocker
from tests.support.real_daemon import Daemon, running, write_config


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """A daemon of this user whose workers have little patience."""
    with tempfile.TemporaryDirectory(prefix="ktask-") as path:
        place = Path(path)
        config = write_config(place / "c", workers={"hang_cpu_s": 0.3, "cancel_grace_s": 0.3})
        with running(place / "run", "--own-user", "--config", config) as started:
            yield started


@pytest.fixture
def client(daemon: Daemon) -> Iterator[ktask.Client]:
    with ktask.connect(daemon.place) as connected:
        yield connected


@pytest.fixture
def executor(daemon: Daemon) -> Iterator[ktask.Executor]:
    with ktask.Executor(2, target=daemon.place) as made:
        yield made


@pytest.fixture
def joblib(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("KTASKD_SOCKET", str(daemon.place))
    backend = importlib.import_module("ktask.joblib")
    backend.register()
    yield importlib.import_module("joblib")
    for executor in list(backend._IDLE):
        executor.shutdown()
    backend._IDLE.clear()
    tracker = importlib.import_module("joblib.externals.loky.backend.resource_tracker")
    tracker._resource_tracker._stop()  # the tracker was started if arrays were mapped


@pytest.fixture
def blocker(executor: ktask.Executor, tmp_path: Path) -> Iterator[Blocker]:
    yield Blocker(executor, tmp_path)
    (tmp_path / "go").touch()  # in any case, since the executor waits for its calls


@pytest.fixture
def short_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors keep workers only for a moment."""
    monkeypatch.setattr("ktask.own.calls.LINGER_S", 0.1)
