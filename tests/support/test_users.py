"""Tests of other users check that their requirements are met, and do not take them for granted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import users
from tests.support.users import NOBODY, OtherUsers


@pytest.mark.other_uid
def test_checkout_when_the_interpreter_is_in_a_private_directory_then_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(private / "python"))
    assert not users.checkout_is_open.__wrapped__()


@pytest.mark.other_uid
def test_interpreter_when_its_files_are_their_owners_alone_then_the_copy_is_for_all(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modes as below /root, and as under umask 077."""
    base = users._copy_installation(reachable_dir / "base")
    for path in (base, *reachable_dir.glob("base/lib/python3*/*.py")):
        path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(base))
    monkeypatch.setattr(sys, "base_prefix", str(reachable_dir / "base"))
    copy = users._copy_installation(reachable_dir / "copy")
    run_as = OtherUsers(reachable_dir)
    done = run_as(NOBODY, [copy, "-I", "-c", "import json; print(json)"], env=run_as.library_path(copy))
    assert str(reachable_dir / "copy") in done.stdout, done.stderr
