"""The runtime directory when somebody removes it, moves it or replaces it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ktaskd.door.sockets.rundir import DirectoryBusy, ListenError, RuntimeDir


def claim(place: Path) -> RuntimeDir:
    """A directory with everything that a daemon makes in it."""
    runtime = RuntimeDir.claim(place)
    for name in ("ktaskd.sock", "handoff.sock"):
        runtime.listen(name, mode=0o600).close()
    bind(runtime.unpublished_path)
    runtime.publish()
    return runtime


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(path))


def names(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


ALL = ["handoff.sock", "inner", "inner/grpc.sock", "ktaskd.lock", "ktaskd.sock"]


def test_close_when_another_daemon_has_the_directory_by_now_then_its_files_stay(tmp_path: Path) -> None:
    place = tmp_path / "run"
    first = claim(place)
    shutil.rmtree(place)
    second = claim(place)
    bind(place / "inner" / "c0123abcd")  # a program that waits for its workers
    first.close()
    assert names(place) == sorted([*ALL, "inner/c0123abcd"])
    with pytest.raises(DirectoryBusy, match=f"pid {os.getpid()}"):
        RuntimeDir.claim(place)
    second.close()
    assert names(place) == []


def test_close_when_the_directory_was_moved_then_it_is_tidied_up_there(tmp_path: Path) -> None:
    place, aside = tmp_path / "run", tmp_path / "aside"
    first = claim(place)
    place.rename(aside)
    second = claim(place)
    first.close()
    assert (names(aside), names(place)) == ([], ALL)
    second.close()


def test_claim_when_only_the_lock_file_was_removed_then_still_busy(tmp_path: Path) -> None:
    runtime = claim(tmp_path)
    (tmp_path / "ktaskd.lock").unlink()
    with pytest.raises(DirectoryBusy):
        RuntimeDir.claim(tmp_path)
    assert set(ALL) <= {*names(tmp_path), "ktaskd.lock"}
    runtime.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda place: (place / "other").touch(), ""),
        (lambda place: shutil.rmtree(place), "run: No such file or directory"),
        (lambda place: place.rename(place.parent / "aside"), "run: No such file or directory"),
        (lambda place: (place.rename(place.parent / "aside"), place.mkdir()), "is another directory now"),
        (lambda place: (place / "ktaskd.lock").unlink(), "ktaskd.lock was removed"),
        (lambda place: (place / "handoff.sock").unlink(), "handoff.sock was removed"),
        (lambda place: (place / "ktaskd.sock").unlink(), "ktaskd.sock was removed"),
        (lambda place: (place / "inner" / "grpc.sock").unlink(), "grpc.sock was removed"),
    ],
)
def test_directory_when_something_of_it_is_gone_then_it_is_known_what(
    tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    place = tmp_path / "run"
    runtime = claim(place)
    assert runtime.why_lost() == ""
    change(place)
    assert says in runtime.why_lost()
    assert bool(says) is bool(runtime.why_lost())
    runtime.close()


def test_grpcs_socket_when_bound_then_its_own_name_is_nobodys(tmp_path: Path) -> None:
    """When grpc ends, it removes the file that then has the name of its socket."""
    first = claim(tmp_path)
    first.close()
    second = claim(tmp_path)
    assert first.unpublished_path != second.unpublished_path
    assert not second.unpublished_path.exists()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as sock:
        (tmp_path / "inner" / "grpc.sock").unlink()
        listener.bind(os.fspath(second.inner_path))
        listener.listen()
        sock.connect(second.dial_path)
    second.close()


def test_claim_when_a_killed_daemon_has_left_its_unpublished_socket_then_removed(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    bind(tmp_path / "inner" / "g01234567")
    RuntimeDir.claim(tmp_path).close()
    assert names(tmp_path) == []


@pytest.mark.other_uid
def test_claim_when_roots_directory_may_be_written_by_a_group_then_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    with pytest.raises(ListenError, match=r"mode 0775 lets other users replace its sockets; remove"):
        RuntimeDir.claim(tmp_path)
