"""gRPC is loaded with its own poller, and the program's settings and children do not change."""

from __future__ import annotations

import os
import subprocess
import sys

import grpc
import pytest

from ktaskd.daemon import poller

PROGRAM = """
import os, subprocess
from ktaskd.daemon.poller import with_own_poller
with with_own_poller():
    import grpc
print(os.environ.get("GRPC_EXPERIMENTS"))
print(subprocess.check_output(["env"], text=True).count("GRPC_"))
grpc.insecure_channel("unix:/nowhere").close()
"""


def loaded(**environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=clean | environ, capture_output=True, text=True, check=True
    )


def test_installed_when_asked_then_the_version_that_is_loaded() -> None:
    assert ".".join(map(str, poller.installed())) == grpc.__version__.rpartition(".")[0]


def test_versions_when_grpc_is_updated_then_the_experiments_are_looked_at_again() -> None:
    """gRPC writes a line on the terminal for the name of an experiment that it does not know."""
    assert poller.SINCE <= poller.installed() < poller.BEFORE


def test_grpc_when_loaded_then_neither_variables_nor_words_are_left() -> None:
    done = loaded()
    assert (done.stdout, done.stderr) == ("None\n0\n", "")


def test_grpc_when_the_user_chose_experiments_then_those() -> None:
    done = loaded(GRPC_EXPERIMENTS="-event_engine_client")
    assert done.stdout == "-event_engine_client\n1\n"


def test_loading_when_inside_then_the_experiments_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(poller.EXPERIMENTS, raising=False)
    with poller.with_own_poller():
        assert os.environ[poller.EXPERIMENTS].split(",") == [f"-{name}" for name in poller.WITHOUT]
    assert poller.EXPERIMENTS not in os.environ


def test_loading_when_another_version_is_installed_then_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(poller.EXPERIMENTS, raising=False)
    monkeypatch.setattr(poller, "installed", lambda: poller.BEFORE)
    with poller.with_own_poller():
        assert poller.EXPERIMENTS not in os.environ
