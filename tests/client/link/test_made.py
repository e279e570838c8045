"""Files that jobs create: their modes, and that a job that does not succeed leaves none."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ktask
import pytest
from ktask.link.made import MadeFiles, mode_for
from ktask.v1 import jobs_pb2 as pb

from tests.client.shell import ended, running
from tests.client.shell import ktask as command


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def made(path: Path, content: bytes, mode: int) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [(0o600, 0o600), (0o644, 0o644), (0o755, 0o755), (0o640, 0o640), (0o666, 0o644), (0o4755, 0o755)],
)
@pytest.mark.parametrize("function", ["file.copy", "file.compress"])
def test_target_when_new_then_no_wider_than_its_source(
    real: Path, tmp_path: Path, function: str, mode: int, wanted: int
) -> None:
    src, dst = made(tmp_path / "src", b"secret" * 999, mode), tmp_path / "dst"
    seen: list[int] = []
    with ktask.connect(real) as client:
        client.run(function, src=src, dst=dst, progress=lambda _: seen.append(mode_of(dst)))
    assert mode_of(dst) == wanted
    assert set(seen) == {wanted}


def test_target_when_of_a_private_archive_then_private(real: Path, tmp_path: Path) -> None:
    src = made(tmp_path / "src", b"x", 0o600)
    for function, one, other in (("compress", src, "a"), ("decompress", tmp_path / "a", "b")):
        assert command(real, "run", f"file.{function}", f"src={one}", f"dst={tmp_path / other}").status == 0
        assert mode_of(tmp_path / other) == 0o600


def test_target_when_it_is_there_then_its_mode_is_kept(real: Path, tmp_path: Path) -> None:
    src, dst = made(tmp_path / "src", b"new", 0o600), made(tmp_path / "dst", b"", 0o664)
    assert command(real, "run", "file.copy", f"src={src}", f"dst={dst}").status == 0
    assert (mode_of(dst), dst.read_bytes()) == (0o664, b"new")


REFUSED = [
    "run file.compress src=text dst=new level=99",
    "run file.compress src=text dst=new format=xz",
    "run file.compress src=text dst=new format=gzip level=12",
    "run file.compress src=text dst=new --range 0:1T",
    "run file.decompress src=text dst=new",
    "run file.copy src=/proc/version dst=new",
    "run file.copy src=text dst=new --range 0:1K",
    "run file.copy src=text dst=new nope=1",
    "run file.copy src=gone dst=new",
    "run file.copy src=text dst=new dst2=x",
    "run file.copy src=text dst=new --detach checksum=maybe",
    "run mem.fill data=new value=1",
    "run mem.fill data=new value=1 --range 0:10",
    "run mem.fill data=new value=256 --range 0:10",
    "run array.map data=new ufunc=sin --range 0:8",
    "run array.map data=new ufunc=negative",
    "run file.punch data=new",
    "run file.allocate data=new",
    "run selftest.undo_log data=new fail_at=1 --range 0:10",
]


@pytest.mark.parametrize("words", REFUSED)
def test_target_when_the_job_is_refused_or_fails_then_not_left(
    real: Path, tmp_path: Path, words: str
) -> None:
    made(tmp_path / "text", b"no archive", 0o644)
    done = command(real, *words.split(), cwd=tmp_path)
    assert done.status in (1, 2), done
    assert done.err.startswith("ktask: ")
    assert sorted(os.listdir(tmp_path)) == ["text"]


@pytest.mark.parametrize("words", REFUSED)
def test_target_when_it_was_there_then_left_as_it_was(real: Path, tmp_path: Path, words: str) -> None:
    if "data=" in words:
        return
    made(tmp_path / "text", b"no archive", 0o644)
    made(tmp_path / "new", b"precious", 0o604)
    assert command(real, *words.split(), cwd=tmp_path).status in (1, 2)
    assert (tmp_path / "new").read_bytes() == b"precious"
    assert mode_of(tmp_path / "new") == 0o604


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("file.compress src=text dst=new level=99", "got 99, wanted at most 19"),
        ("file.decompress src=text dst=new format=xz", 'got "xz", wanted auto, zstd or gzip'),
        ("array.reduce data=text op=median", 'got "median", wanted sum, mean, min, max or histogram'),
        ("array.reduce data=text dtype=int7", 'got "int7", wanted int8'),
        ("text.search data=text pattern=( regex=yes", "not a regular expression of RE2: missing )"),
    ],
)
def test_argument_when_wrong_then_bad_input(real: Path, tmp_path: Path, words: str, problem: str) -> None:
    made(tmp_path / "text", b"12345678", 0o644)
    done = command(real, "run", *words.split(), cwd=tmp_path)
    assert done.status == 2
    assert problem in done.err


def test_target_when_interrupted_then_not_left(real: Path, tmp_path: Path) -> None:
    src = made(tmp_path / "src", b"x" * 9999, 0o644)

    def interrupt(_: ktask.Job) -> None:
        raise KeyboardInterrupt

    with ktask.connect(real) as client, pytest.raises(KeyboardInterrupt):
        client.run("file.copy", src=src, dst=tmp_path / "dst", progress=interrupt)
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_target_when_the_command_is_ended_by_a_signal_then_not_left(
    real: Path, tmp_path: Path, number: int, status: int
) -> None:
    made(tmp_path / "src", os.urandom(48 << 20), 0o600)
    words = ["run", "file.compress", f"src={tmp_path / 'src'}", f"dst={tmp_path / 'dst'}", "level=19"]
    with running(real, *words) as process:
        with ktask.connect(real) as client:
            while not any(job.owner.pid == process.pid for job in client.jobs(states=["RUNNING"])):
                assert process.poll() is None
        assert mode_of(tmp_path / "dst") == 0o600
        process.send_signal(number)
        done = ended(process)
    assert (done.status, done.out) == (status, "")
    assert "interrupted; job" in done.err
    assert "CANCELLED" in done.err
    assert os.listdir(tmp_path) == ["src"]


def test_list_when_the_command_is_terminated_then_the_old_one_is_left(real: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("old")
    for i in range(3000):
        (tmp_path / f"{i:04}").touch()
    with running(real, "manifest", ".", "--output", "list", cwd=tmp_path) as process:
        while not any(name.startswith(".list.") for name in os.listdir(tmp_path)):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert ended(process).status == 143
    assert (tmp_path / "list").read_text() == "old"
    assert len(os.listdir(tmp_path)) == 3001


def test_target_when_replaced_meanwhile_then_the_other_one_stays(tmp_path: Path) -> None:
    files, path = MadeFiles(), tmp_path / "f"
    with files.open(path, pb.ACCESS_WRITE, 0o666):
        path.rename(tmp_path / "mine")
        path.write_text("another")
    files.remove()
    assert path.read_text() == "another"
    with files.open(path, pb.ACCESS_WRITE, 0o666):
        files.remove()
    assert path.exists()


def test_target_when_a_link_to_nothing_then_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ValueError, match="a link to a file that does not exist"):
        MadeFiles().open(tmp_path / "link", pb.ACCESS_WRITE, 0o666)
    assert not (tmp_path / "nowhere").exists()


def test_mode_when_of_several_then_no_wider_than_any(tmp_path: Path) -> None:
    one, other = made(tmp_path / "a", b"", 0o750), made(tmp_path / "b", b"", 0o644)
    with ktask.memory(1) as memory, one.open("rb") as opened:
        several: list[Any] = [one, other, memory, opened]
        assert mode_for(several) == 0o640
        assert mode_for([memory]) == mode_for([]) == 0o666
        assert mode_for([memory, ktask.Handle("x"), other]) == 0o600


def test_path_when_a_dash_then_refused_and_not_made(real: Path, tmp_path: Path) -> None:
    with ktask.connect(real) as client, pytest.raises(ValueError, match=r'"\./-" is the file of that name'):
        client.run("file.copy", src=made(tmp_path / "a", b"", 0o644), dst="-")
