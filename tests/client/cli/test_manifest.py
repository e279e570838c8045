"""`ktask manifest` and `ktask verify` against the real daemon and the usual tools."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3

from tests.client.shell import Ended
from tests.client.shell import ktask as command

MIB = 1 << 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with odd names and sizes, and with entries that are no regular files."""
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    for name, content in {
        b"a": b"",
        b"bad\xff": b"x",
        b"new\nline": b"y",
        b"back\\slash": b"z",
        b"sub/big": os.urandom(3 * MIB + 1),
        b"sparse": b"",
    }.items():
        Path(os.fsdecode(os.fsencode(top) + b"/" + name)).write_bytes(content)
    os.truncate(top / "sparse", 64 * MIB)
    (top / "link").symlink_to("a")
    os.mkfifo(top / "fifo")
    return tmp_path


def written(real: Path, tree: Path, *words: object) -> Path:
    place = tree / "manifest"
    done = command(real, "manifest", "--output", place, *words, cwd=tree)
    assert (done.status, done.err) == (0, "")
    return place


def verify(real: Path, tree: Path, *words: object) -> Ended:
    return command(real, "verify", *words, cwd=tree)


def test_manifest_when_of_a_tree_then_sha256sum_accepts_it(real: Path, tree: Path) -> None:
    place = written(real, tree, "tree")
    done = subprocess.run(["sha256sum", "-c", "--strict", place], cwd=tree, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b": OK") == 6
    assert verify(real, tree, place, "--quiet") == Ended(0, "", "")


def test_manifest_when_of_many_small_files_then_all_in_order(real: Path, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for i in range(1200):
        (tmp_path / "many" / f"{i:04}").write_text(str(i))
    lines = command(real, "manifest", "many", "--algorithm", "blake3", cwd=tmp_path).out.splitlines()
    assert lines == [f"{blake3(str(i).encode()).hexdigest()}  many/{i:04}" for i in range(1200)]


def test_verify_when_files_have_changed_then_they_are_named(real: Path, tree: Path) -> None:
    place = written(real, tree, "tree")
    (tree / "tree/a").write_bytes(b"more")
    (tree / "tree/sparse").unlink()
    done = verify(real, tree, place)
    assert done.status == 1
    assert "tree/a: FAILED\n" in done.out
    assert "tree/sparse: FAILED open or read\n" in done.out
    assert done.out.count(": OK\n") == 4
    assert "verify: 6 files, 2 findings" in done.err


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_verify_when_blocks_are_bad_then_each_is_named(real: Path, tree: Path, algorithm: str) -> None:
    place = written(real, tree, "tree", "--block", "1M", "--algorithm", algorithm)
    assert verify(real, tree, place, "--algorithm", algorithm, "--quiet") == Ended(0, "", "")
    big = tree / "tree/sub/big"
    with big.open("r+b") as file:
        for at in (MIB, 3 * MIB):
            byte = os.pread(file.fileno(), 1, at)
            os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), at)
    done = verify(real, tree, place, "--algorithm", algorithm, "--quiet")
    assert done.status == 1
    assert done.out.splitlines() == [
        f"tree/sub/big: FAILED bytes {MIB} to {2 * MIB}",
        f"tree/sub/big: FAILED bytes {3 * MIB} to {3 * MIB + 1}",
    ]
    os.truncate(big, MIB)
    shorter = verify(real, tree, place, "--algorithm", algorithm, "--quiet").out.splitlines()
    assert shorter == [f"tree/sub/big: FAILED has {MIB} bytes, listed with {3 * MIB + 1}"]


def test_verify_when_interrupted_then_it_goes_on_where_it_was(real: Path, tree: Path) -> None:
    place = written(real, tree, "tree")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    state = tree / "state"
    state.write_text(f"ktask-verify {digest} 4\ntree/a: FAILED\n")
    done = verify(real, tree, place, "--resume", state)
    assert done.status == 1
    assert done.out.splitlines()[0] == "tree/a: FAILED (before)"
    assert done.out.count(": OK\n") == 2
    assert not state.exists()
    state.write_text("ktask-verify 00 4\n")
    other = verify(real, tree, place, "--resume", state)
    assert (other.status, other.out) == (2, "")
    assert "it belongs to another manifest" in other.err


def test_manifest_when_something_cannot_be_read_then_the_rest_is_there(real: Path, tree: Path) -> None:
    done = command(real, "manifest", "tree/a", "tree/gone", "tree/sparse", cwd=tree)
    assert done.status == 1
    assert len(done.out.splitlines()) == 2
    assert 'file "tree/gone": No such file or directory' in done.err
