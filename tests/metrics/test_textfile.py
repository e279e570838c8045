"""The file for the textfile collector."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ktaskd.metrics import textfile


def test_write_when_done_then_readable_for_all_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "k.prom"
    before = os.umask(0o077)
    try:
        textfile.write(os.fspath(path), b"one")
        textfile.write(os.fspath(path), b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["k.prom"]
    textfile.remove(os.fspath(path))
    textfile.remove(os.fspath(path))
    assert not os.listdir(tmp_path)


def test_write_when_it_is_impossible_then_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "k.prom"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        textfile.write(os.fspath(path), b"text")
    assert os.listdir(tmp_path) == ["k.prom"]


def test_write_when_a_link_lies_in_wait_then_its_target_is_not_written(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "k.prom"
    victim.write_text("mine")
    (tmp_path / f"k.prom.{os.getpid()}.tmp").symlink_to(victim)
    path.symlink_to(victim)
    textfile.write(os.fspath(path), b"text")
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
