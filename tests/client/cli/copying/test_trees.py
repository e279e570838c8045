"""A copy is complete, private until then, or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ktask.cli.copying import contents
from ktask.cli.copying.contents import Copier
from ktask.cli.main import main


def copy(*words: str | Path) -> int:
    return main(["copy", *map(str, words)])


def test_copy_when_it_fails_then_no_new_file_and_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("one")

    def full(*args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Copier, "_each_part", full)
    assert copy(tmp_path / "a", tmp_path / "b") == 1
    assert not (tmp_path / "b").exists()
    assert f'ktask: copy: "{tmp_path}/a": No space left on device' in capsys.readouterr().err


def test_copy_while_it_is_made_then_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a"
    source.write_text("one")
    source.chmod(0o644)
    modes = []
    plain = Copier._each_part

    def seen(self: Copier, src: int, dst: int, size: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(dst).st_mode))
        plain(self, src, dst, size)

    monkeypatch.setattr(Copier, "_each_part", seen)
    assert copy("-p", source, tmp_path / "b") == 0
    assert modes == [0o600]
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o644


def test_copy_when_the_source_changes_then_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a"
    source.write_text("one")
    plain = Copier._each_part

    def changing(self: Copier, *args: Any) -> None:
        plain(self, *args)
        with source.open("a") as file:
            file.write("more")

    monkeypatch.setattr(Copier, "_each_part", changing)
    assert copy(source, tmp_path / "b") == 0
    assert "changed while it was copied" in capsys.readouterr().err


def test_copy_when_verified_and_it_differs_then_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("one two")
    monkeypatch.setattr(Copier, "_plain", lambda self, src, dst, start, end: os.pwrite(dst, b"one tXo", 0))
    assert copy("--verify", tmp_path / "a", tmp_path / "b") == 1
    assert "the copy differs at byte 5" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_copy_when_shared_storage_is_demanded_and_impossible_then_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("one")
    monkeypatch.setattr(contents, "_FICLONE", 0)
    assert copy("--reflink=always", tmp_path / "a", tmp_path / "b") == 1
    assert "failed to clone" in capsys.readouterr().err
    assert copy("--reflink=auto", tmp_path / "a", tmp_path / "b") == 0


def test_tree_when_deep_then_copied_whole(tmp_path: Path) -> None:
    deep = tmp_path / "top"
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    assert copy("-r", tmp_path / "top", tmp_path / "new") == 0
    assert (tmp_path / "new" / deep.relative_to(tmp_path / "top") / "file").read_text() == "deep"
