"""The layers of the packages. The contracts are in pyproject.toml; this runs and completes them.

Guards: I13
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.tree import REPOSITORY, Source, sources, within

PURE_PACKAGES = ("ktaskd.model", "ktaskd.planner")
PURE_MODULES = (
    *("ktaskd.jobs.affinity", "ktaskd.jobs.crew", "ktaskd.jobs.eligibility", "ktaskd.jobs.fairshare"),
    *("ktaskd.jobs.holders", "ktaskd.jobs.machine", "ktaskd.jobs.pace", "ktaskd.jobs.positions"),
    *("ktaskd.jobs.queues", "ktaskd.jobs.standstill"),
    "ktaskd.pool.respawn",
    "ktaskd.functions.catalogue",
)
PURE_FILES = ("frames.py", "codec.py", "policy.py")
IMPURE = (
    *("os", "io", "pathlib", "time", "datetime", "random", "secrets", "uuid", "logging"),
    *("threading", "multiprocessing", "concurrent", "asyncio", "subprocess", "signal"),
    *("socket", "select", "selectors", "mmap", "fcntl", "ctypes", "grpc", "google"),
)
"""Modules that make a result depend on more than the arguments."""

WITHOUT_GRPC = (
    *("ktaskd.pool.host", "ktaskd.worker", "ktaskd.door.handoff.keeper", "ktaskd.door.handoff.vet"),
    *("ktaskd.functions", "ktaskd.planner", "ktaskd.host", "ktaskd.model", "ktask.v1.handoff"),
)
"""Modules that are loaded in workers, pool hosts and keepers."""


def is_pure(source: Source) -> bool:
    named = within(source.module, ("ktaskd",)) and source.path.name in PURE_FILES
    return named or within(source.module, PURE_PACKAGES + PURE_MODULES)


def offences(chosen: list[Source], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{source.name}:{line}: imports {name}"
        for source in chosen
        for line, name in source.imports()
        if within(name, forbidden)
    ]


def client_imports(chosen: list[Source]) -> list[str]:
    """Imports from the client outside the contract; `from ktask import v1` is inside."""
    return [
        f"{source.name}:{line}: imports {name}"
        for source in chosen
        for line, name in source.imports()
        if within(name, ("ktask",)) and not within(name, ("ktask.v1",)) and name != "ktask"
    ]


def imported_by(code: str) -> set[str]:
    """Names of the modules that a clean interpreter has loaded after this code."""
    words = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_floors_when_checked_then_kept() -> None:
    """Guards: S1"""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pure_files_when_read_then_import_nothing_of_the_world() -> None:
    """Guards: S2"""
    pure = [source for source in sources() if is_pure(source)]
    assert len(pure) >= 10
    assert not offences(pure, IMPURE)


def test_generated_code_when_used_in_the_daemon_then_only_by_api_and_daemon() -> None:
    """Guards: S3"""
    others = [
        source
        for source in sources()
        if within(source.module, ("ktaskd",)) and not within(source.module, ("ktaskd.api", "ktaskd.daemon"))
    ]
    generated = tuple(
        f"ktask.v1.{path.stem}" for path in (REPOSITORY / "client" / "ktask" / "v1").glob("*_pb2*.py")
    )
    assert generated
    assert not offences(others, generated)


def test_daemon_when_it_imports_the_client_then_only_the_contract() -> None:
    """Guards: S3"""
    daemon = [source for source in sources() if within(source.module, ("ktaskd",))]
    assert not client_imports(daemon)


def test_contract_when_it_imports_then_nothing_of_the_client() -> None:
    """Guards: S3"""
    contract = [source for source in sources() if within(source.module, ("ktask.v1",))]
    assert contract
    assert not client_imports(contract)


@pytest.mark.parametrize("stem", ["jobs_pb2", "control_pb2"])
def test_generated_code_when_imported_then_neither_grpc_nor_the_client_is_loaded(stem: str) -> None:
    loaded = imported_by(f"import ktask.v1.{stem}")
    assert "google.protobuf" in loaded
    # The package's own module is loaded with it; all other modules belong to the client.
    mine = {name for name in loaded if within(name, ("ktask",))}
    assert mine <= {"ktask", "ktask.v1", "ktask.v1.jobs_pb2", "ktask.v1.control_pb2"}
    assert not [name for name in loaded if within(name, ("grpc",))]


def test_worker_side_when_imported_then_neither_grpc_nor_an_event_loop_is_loaded() -> None:
    modules = [source.module for source in sources() if within(source.module, WITHOUT_GRPC)]
    modules = [module for module in modules if not module.endswith("__main__")]
    loaded = imported_by("\n".join(f"import {module}" for module in modules))
    assert set(modules) <= loaded
    assert not [name for name in loaded if within(name, ("grpc", "google", "asyncio"))]
