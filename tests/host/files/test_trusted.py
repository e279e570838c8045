"""Files that only root and our own user can have made or replaced."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ktaskd.host.files import trusted
from ktaskd.host.files.trusted import Untrusted

STRANGER = 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """a/b/file, a link next to each of them, and a link in a circle."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("right")
    (tmp_path / "a/b/file").chmod(0o644)
    (tmp_path / "relative").symlink_to("a/./b")
    (tmp_path / "absolute").symlink_to(tmp_path / "a/b")
    (tmp_path / "a/up").symlink_to("../a/b/../b/file")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "here").symlink_to(".")
    return tmp_path


def read(path: Path) -> str:
    with open(trusted.open_file(str(path)), encoding="utf-8") as file:
        return file.read()


WAYS = ["a/b/file", "relative/file", "absolute/file", "a/up", "here/a/b/file", "here/here/absolute/../b/file"]


@pytest.mark.parametrize("way", WAYS)
def test_file_when_all_on_the_way_is_ours_then_opened(tree: Path, way: str) -> None:
    assert read(tree / way) == "right"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_directory_when_others_may_write_it_then_refused_by_every_way(
    tree: Path, way: str, mode: int
) -> None:
    (tree / "a/b").chmod(mode)
    with pytest.raises(
        Untrusted, match=rf"other users can write its directory {tree}/.*b \(mode 0{mode:o}\)"
    ):
        read(tree / way)


def test_directory_when_sticky_then_what_is_in_it_counts(tree: Path) -> None:
    (tree / "a/b").chmod(0o1777)
    assert read(tree / "a/b/file") == "right"


@needs_root
@pytest.mark.parametrize(
    ("what", "ways", "words"),
    [
        (
            "a",
            WAYS,
            "its directory .*/a belongs to uid 12345, who can replace it; it must belong to uid 0 or 0",
        ),
        ("a/b", WAYS, "its directory .*/b belongs to uid 12345"),
        ("a/b/file", WAYS, "belongs to uid 12345; it must belong to uid 0 or 0"),
        ("relative", ["relative/file"], "its symbolic link .*/relative belongs to uid 12345"),
        ("absolute", ["absolute/file"], "its symbolic link .*/absolute belongs to uid 12345"),
        ("a/up", ["a/up"], "its symbolic link .*/up belongs to uid 12345"),
    ],
)
def test_anything_when_a_stranger_owns_it_then_refused(
    tree: Path, what: str, ways: list[str], words: str
) -> None:
    os.chown(tree / what, STRANGER, -1, follow_symlinks=False)
    for way in ways:
        with pytest.raises(Untrusted, match=words):
            read(tree / way)


@pytest.mark.parametrize(
    ("way", "number"),
    [("round", errno.ELOOP), ("a/none", errno.ENOENT), ("a/b/file/x", errno.ENOTDIR)],
)
def test_path_when_it_leads_nowhere_then_an_error(tree: Path, way: str, number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)):
        read(tree / way)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_file_when_it_is_none_then_refused_and_nothing_is_waited_for(
    tree: Path, make: Callable[[Path], None]
) -> None:
    make(tree / "odd")
    with pytest.raises(Untrusted, match="is not a regular file"):
        read(tree / "odd")
    with pytest.raises(Untrusted, match="is not a directory"):
        trusted.open_directory(str(tree / "a/b/file"))


def test_file_when_others_may_write_it_later_then_refused(tree: Path) -> None:
    fd = trusted.open_file(str(tree / "a/b/file"))
    try:
        trusted.check_file(fd)
        (tree / "a/b/file").chmod(0o666)
        with pytest.raises(Untrusted, match=r"other users can write it \(mode 0666\)"):
            trusted.check_file(fd)
    finally:
        os.close(fd)


def test_tree_when_something_in_it_is_not_ours_alone_then_named(tree: Path) -> None:
    trusted.check_tree(str(tree / "a"))
    trusted.check_tree(str(tree / "a/b/file"))
    (tree / "a/b/file").chmod(0o646)
    with pytest.raises(Untrusted, match=rf"{tree}/a/b/file other users can write it"):
        trusted.check_tree(str(tree / "a"))
    (tree / "a/b/file").chmod(0o644)
    (tree / "a/b").chmod(0o757)
    with pytest.raises(Untrusted, match=rf"{tree}/a/b other users can write it"):
        trusted.check_tree(str(tree / "a"))
