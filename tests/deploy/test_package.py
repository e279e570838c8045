"""The package's own scripts, on a machine with systemd and on one without."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.users import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
RECORD = '#!/bin/sh\necho "${0##*/} $*" >>"$LOG"\n'
"""A program that records how it was called."""


def run(script: str, action: str, directory: Path, *there: str, old: str = "") -> tuple[int, list[str], str]:
    """Run a script with only these programs; return its status, its calls and its output."""
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here")
    programs, log = directory / "bin", directory / "log"
    programs.mkdir()
    log.touch()
    for name in there:
        (programs / name).write_text(RECORD)
        (programs / name).chmod(0o755)
    (programs / "getent").write_text("#!/bin/sh\nexit 2\n")
    (programs / "getent").chmod(0o755)
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, DEPLOY / script, action, old],
        env={"PATH": str(programs), "LOG": str(log)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, log.read_text().splitlines(), done.stdout + done.stderr


def test_postinst_when_there_is_no_systemd_then_user_and_group_all_the_same(tmp_path: Path) -> None:
    status, called, said = run("deb.postinst", "configure", tmp_path, "groupadd", "useradd")
    assert status == 0, said
    assert called[0] == "groupadd --system ktask"
    assert called[1].startswith("useradd --system --user-group ")
    assert called[1].endswith(" ktaskd")
    assert "start the daemon yourself" in said
    assert "usermod -aG ktask USER" in said


def test_postinst_when_an_upgrade_then_no_first_steps(tmp_path: Path) -> None:
    status, _, said = run("deb.postinst", "configure", tmp_path, "groupadd", "useradd", old="0.0.1")
    assert status == 0, said
    assert "usermod -aG ktask USER" not in said


def test_postinst_when_systemd_is_installed_and_does_not_run_then_nothing_is_started(tmp_path: Path) -> None:
    programs = ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "groupadd", "useradd")
    status, called, said = run("deb.postinst", "configure", tmp_path, *programs)
    assert status == 0, said
    assert called == [
        "systemd-sysusers /usr/lib/sysusers.d/ktaskd.conf",
        "systemctl --no-reload enable ktaskd.socket ktaskd-helpers.socket",
    ]


@pytest.mark.parametrize(("script", "action"), [("deb.prerm", "remove"), ("deb.prerm", "upgrade")])
def test_prerm_when_there_is_no_systemd_then_nothing_to_do(tmp_path: Path, script: str, action: str) -> None:
    status, called, said = run(script, action, tmp_path)
    assert (status, called, said) == (0, [], "")


def test_package_when_described_then_it_needs_no_systemd() -> None:
    (depends,) = [
        line for line in (REPOSITORY / "tools/deb.sh").read_text().splitlines() if line.startswith("Depends:")
    ]
    names = {word.split()[0] for word in depends.removeprefix("Depends:").split(",")}
    assert "systemd" not in names
    assert {"passwd", "libsystemd0"} <= names
