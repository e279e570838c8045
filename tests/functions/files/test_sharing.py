"""On a file system that can share storage, a copy takes none, and its undo gives none back.

Tests: ktaskd/functions/files/copying.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ktaskd.functions.bodies import find
from ktaskd.worker.sources import Source
from tests.functions.inprocess import MIB, Recorder, content, context_of, hole_map, prepare, take_turns
from tests.support.sources import facts_of

BODY = find("file.copy")
SIZE = 24 * MIB
IMAGE_BYTES = 512 * MIB
"""More than either mkfs asks for; the image is sparse."""


@pytest.fixture(params=["btrfs", "xfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The name of a file system that shares storage, and where it is mounted."""
    kind: str = request.param
    if os.geteuid() or shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"needs root and mkfs.{kind}")
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True).returncode:
        pytest.skip(f"no right to mount an image of {kind}")
    try:
        yield kind, place
    finally:
        subprocess.run(["umount", place], check=True)


def opened(path: Path, kind: str) -> Source:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    return Source(fd, replace(facts_of(fd, own_offset=True), file_system=kind))


def free_bytes(place: Path) -> int:
    os.sync()
    status = os.statvfs(place)
    return status.f_bfree * status.f_bsize


@pytest.mark.parametrize("way", [0, 1])
def test_copy_when_storage_can_be_shared_then_it_is_and_the_undo_leaves_src(
    sharing: tuple[str, Path], way: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage is shared even if another way is faster: reading and writing would take storage."""
    take_turns(monkeypatch, way)
    kind, place = sharing
    src, dst = opened(place / "src", kind), opened(place / "dst", kind)
    try:
        for position in (0, 2 * MIB, 10 * MIB):
            os.pwrite(src.fd, os.urandom(MIB), position)
        os.ftruncate(src.fd, SIZE)
        before, text = free_bytes(place), content(src)
        context, control = context_of((0, SIZE), whole=True, src=src, dst=dst), Recorder()
        prepared = prepare(BODY, context)
        assert BODY.run(context, 0, SIZE, control) == (SIZE, {"bytes": SIZE})
        assert content(dst) == text
        assert hole_map(dst) == hole_map(src)
        assert before - free_bytes(place) < MIB
        os.pwrite(dst.fd, b"changed", 10)
        assert content(src) == text
        assert BODY.undo(context, 0, SIZE, control.holes, Recorder()) == []
        BODY.restore(context, prepared)
        assert (dst.size(), content(src)) == (0, text)
        assert os.fstat(dst.fd).st_blocks == 0
    finally:
        src.close()
        dst.close()
