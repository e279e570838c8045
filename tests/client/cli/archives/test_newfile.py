"""A new file has its name, its rights and its time when it is complete, and is private before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ktask.cli.archives.newfile import NewFile


def test_file_when_new_then_its_owner_alone_can_open_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.touch(0o640)
    with NewFile(os.fsencode(tmp_path / "new"), replace=False) as new:
        (name,) = set(os.listdir(tmp_path)) - {"source"}
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        new.complete(source.stat(), sync=True)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["new", "source"]


def test_file_when_its_name_is_taken_meanwhile_then_the_other_stays(tmp_path: Path) -> None:
    with NewFile(os.fsencode(tmp_path / "new"), replace=False) as new:
        (tmp_path / "new").write_text("theirs")
        with pytest.raises(FileExistsError):
            new.complete(None, sync=False)
    assert (tmp_path / "new").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["new"]


def test_file_when_it_cannot_be_made_then_the_error_has_its_own_name(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "nosuch" / "new")
    with pytest.raises(FileNotFoundError) as caught, NewFile(path, replace=False):
        pass
    assert caught.value.filename == os.fsdecode(path)
