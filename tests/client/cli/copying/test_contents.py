"""Long files are copied and compared by jobs, and short ones at once; holes stay holes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ktask.cli.copying import contents
from ktask.cli.main import main

from tests.support.real_daemon import running

MIB = 1 << 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a daemon."""
    with running(tmp_path_factory.mktemp("copy") / "d") as daemon:
        yield daemon.place


@pytest.mark.parametrize("words", [(), ("--verify",), ("--reflink=never",)])
def test_file_when_long_then_copied_by_a_job(
    place: Path, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "LONG", 3 * MIB)
    monkeypatch.delattr(contents.Copier, "_each_part")
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(5 * MIB)
        file.seek(5 * MIB)
        file.write(b"end")
    assert main(["--socket", str(place), "copy", *words, str(source), str(target)]) == 0
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks == source.stat().st_blocks
    assert target.stat().st_mode == source.stat().st_mode


def test_file_when_long_and_no_daemon_answers_then_no_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contents, "LONG", 1)
    source = tmp_path / "a"
    source.write_text("one")
    (tmp_path / "nobody").mkdir(mode=0o700)
    assert main(["--socket", str(tmp_path / "nobody"), "copy", str(source), str(tmp_path / "b")]) == 1
    assert not (tmp_path / "b").exists()
    assert "nobody" in capsys.readouterr().err


@pytest.mark.parametrize("sparse", ["auto", "always", "never"])
def test_holes_when_asked_for_then_kept_or_made_or_filled(sparse: str, tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"x" * 4096 + bytes(8192) + b"y")
    os.truncate(source, MIB)
    assert main(["copy", f"--sparse={sparse}", str(source), str(target)]) == 0
    assert target.read_bytes() == source.read_bytes()
    blocks = {"auto": source.stat().st_blocks, "always": 16, "never": MIB // 512}
    assert target.stat().st_blocks == blocks[sparse]
