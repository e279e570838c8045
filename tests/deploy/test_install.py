"""Installing into a directory, and uninstalling."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "tools/install.sh"
PREFIX = "/opt/kt"


def install(action: str, destination: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Install without the dependencies, which take long to fetch."""
    own = {
        "DESTDIR": str(destination),
        "PREFIX": PREFIX,
        "EXTRAS": "",
        "PIP_NO_DEPS": "1",
        "PYTHON": sys.executable,
    }
    return subprocess.run(
        [SCRIPT, action], env={**os.environ, **own, **environ}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    destination = tmp_path_factory.mktemp("root")
    done = install("install", destination)
    assert done.returncode == 0, done.stderr
    yield destination
    config = destination / "etc/ktaskd/ktaskd.toml"
    config.write_text(config.read_text() + "# mine\n")
    done = install("uninstall", destination)
    assert (done.returncode, "has been changed" in done.stdout) == (0, True)
    assert [path for path in destination.rglob("*") if path.is_file() or path.is_symlink()] == [config]
    (destination / "etc/ktaskd/ktaskd.toml").write_text((REPOSITORY / "deploy/ktaskd.toml").read_text())
    install("uninstall", destination)
    assert not [path for path in destination.rglob("*") if not path.is_dir()]


def test_install_when_done_then_commands_and_units_are_in_place(installed: Path) -> None:
    home = installed / PREFIX[1:] / "lib/ktaskd"
    for name in ("ktask", "ktaskd"):
        link = installed / PREFIX[1:] / "bin" / name
        assert link.resolve() == home / "bin" / name
        first = link.read_text().splitlines()[0]
        assert first == f"#!{PREFIX}/lib/ktaskd/bin/python -I"
    share = installed / PREFIX[1:] / "share"
    assert (share / "man/man1/ktask-sum.1").exists()
    assert (share / "man/man5/ktaskd.toml.5").exists()
    assert (share / "bash-completion/completions/ktask").exists()
    assert not (home / "share/man").exists()
    units = installed / PREFIX[1:] / "lib/systemd/system"
    assert f"ExecStart={PREFIX}/bin/ktaskd --pool-hosts" in (units / "ktaskd-helpers.service").read_text()
    assert (installed / PREFIX[1:] / "lib/systemd/user/ktaskd.service").exists()
    assert (installed / "etc/ktaskd/ktaskd.toml").exists()
    assert not [path for path in home.rglob("*.pth")]
    assert {path.name.partition("3")[0] for path in (home / "bin").iterdir()} == {"python", "ktask", "ktaskd"}
    for path in home.rglob("*.pyc"):
        assert str(installed).encode() not in path.read_bytes(), path
        break


def test_install_when_the_configuration_is_there_then_left(installed: Path) -> None:
    assert "left unchanged" in install("install", installed, PIP_NO_DEPS="1").stdout


@pytest.mark.parametrize(("key", "value"), [("PREFIX", "usr"), ("DESTDIR", "here")])
def test_install_when_a_path_is_relative_then_refused(tmp_path: Path, key: str, value: str) -> None:
    done = install("install", tmp_path, **{key: value})
    assert done.returncode == 1
    assert f'{key}: got "{value}", wanted' in done.stderr
