"""`ktask warm` reads files into the page cache, and drops them from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.shell import ktask
from tests.support.real_daemon import running

SIZE = 3 << 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a daemon."""
    with running(tmp_path_factory.mktemp("warm") / "d") as daemon:
        yield daemon.place


def written(path: Path, size: int = SIZE) -> Path:
    """A file that is on the disk, so that its pages can be dropped."""
    with path.open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
    return path


def resident(path: Path) -> int:
    """Bytes of a file that are in memory."""
    if shutil.which("fincore") is None:
        pytest.skip("needs fincore, to compare with")
    words = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def test_file_when_dropped_and_warmed_then_out_of_memory_and_in(place: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "a")
    dropped = ktask(place, "warm", "-e", path)
    assert (dropped.status, dropped.err) == (0, "")
    if resident(path):
        pytest.skip("needs a page cache that drops what it is asked to")
    warmed = ktask(place, "warm", path)
    assert (warmed.status, warmed.err) == (0, "")
    assert resident(path) == SIZE
    assert re.match(re.escape(f"{path}: 3.0 MiB"), warmed.out)


def test_files_when_one_is_bad_then_named_and_the_others_are_warmed(place: Path, tmp_path: Path) -> None:
    paths = [written(tmp_path / "a"), tmp_path / "nosuch", tmp_path, written(tmp_path / "b")]
    done = ktask(place, "warm", *paths)
    assert done.status == 1
    assert [line.split(":")[0] for line in done.out.splitlines()] == [str(paths[0]), str(paths[3])]
    assert [str(path) in line for path, line in zip(paths[1:3], done.err.splitlines(), strict=True)]


def test_tree_when_warmed_then_a_line_for_each_file_or_none(place: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    paths = [written(tmp_path / name, 100) for name in ("a", "sub/b")]
    done = ktask(place, "warm", "-r", tmp_path)
    assert [line.split(":")[0] for line in done.out.splitlines()] == [str(path) for path in paths]
    quiet = ktask(place, "warm", "-rq", tmp_path)
    assert (quiet.status, quiet.out) == (0, "")


def test_words_when_wrong_then_1_as_for_errors(place: Path) -> None:
    for words in ([], ["--nosuch", "a"]):
        assert ktask(place, "warm", *words).status == 1
