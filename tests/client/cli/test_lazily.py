"""The command loads little for a help text, and for a job nothing that it does not use."""

from __future__ import annotations

import gc
import importlib.metadata
import subprocess
import sys

import pytest
from ktask.cli.lazily import uncollected
from ktask.cli.version import VERSION

import ktaskd

VERBS = (
    *("run", "jobs", "show", "explain", "watch", "cancel", "status", "doctor", "mode", "functions"),
    *(
        "manifest",
        "verify",
        "hold",
        "compare",
        "compress",
        "copy",
        "decompress",
        "fill",
        "search",
        "sum",
        "warm",
    ),
)
HEAVY = ("asyncio", "google", "grpc", "importlib.metadata", "inspect", "logging", "numpy", "socket", "ssl")
"""Packages that a help text has no use for; each takes at least a millisecond to load."""
NEVER = ("asyncio", "grpc.aio", "google.protobuf.internal.python_message", "ktask.status", "ssl")
"""Modules that a job has no use for, though modules that it needs import them."""
MOST = 40
"""Modules of a help text beyond those of an interpreter that does nothing."""


def loaded(code: str, *words: str) -> set[str]:
    """Modules that a clean interpreter, isolated from its environment, has really loaded after this code."""
    whole = (
        f"import sys\n{code}\nloaded = [name for name, module in sys.modules.items()"
        " if type(module).__name__ != '_LazyModule']\nprint(*loaded, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", whole, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def is_within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("words", [("--version",), ("--help",), *((verb, "-h") for verb in VERBS)])
def test_command_when_it_only_prints_help_then_it_loads_little(words: tuple[str, ...]) -> None:
    bare = loaded("")
    found = loaded("from ktask.cli.main import main\nassert main() == 0", *words) - bare
    assert "ktask.cli.main" in found
    assert not [name for name in found if is_within(name, HEAVY)]
    assert len(found) <= MOST


@pytest.mark.parametrize("module", ["run", "commands", "manifest", "verify"])
def test_command_when_it_needs_the_daemon_then_it_loads_only_what_it_uses(module: str) -> None:
    code = f"from ktask.cli.lazily import load_lazily\nload_lazily()\nimport ktask.cli.{module}"
    found = loaded(code)
    assert {"grpc", "google.protobuf.message"} <= found
    assert not [name for name in found if is_within(name, NEVER)]


def test_module_when_found_lazily_then_loaded_at_its_first_use() -> None:
    code = (
        "from ktask.cli.lazily import load_lazily\nload_lazily()\nimport json\n"
        "assert 'json.decoder' not in sys.modules\nassert json.loads('[1]') == [1]"
    )
    assert "json.decoder" in loaded(code)


@pytest.mark.parametrize("enabled", [True, False])
def test_collections_when_modules_are_loaded_then_off_and_after_that_as_before(enabled: bool) -> None:
    try:
        if not enabled:
            gc.disable()
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_version_when_printed_then_that_of_the_daemon_and_of_the_package() -> None:
    assert VERSION == ktaskd.__version__ == importlib.metadata.version("ktaskd")


def test_command_when_it_ends_at_once_then_registered_functions_run_and_nothing_is_lost() -> None:
    code = (
        "import atexit, sys\n"
        "from ktask.cli import main\n"
        "atexit.register(lambda: print('registered'))\n"
        "sys.argv = ['ktask', 'no-such-command']\n"
        "main.command()"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "registered\n")
    assert done.stderr.startswith('ktask: command: got "no-such-command"')
