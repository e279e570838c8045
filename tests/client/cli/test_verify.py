"""`ktask manifest` and `ktask verify` with bad files and bad lists."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from tests.client.shell import KTASK, WAIT_S, Ended, environment
from tests.client.shell import ktask as command


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for name in "abc":
        (tmp_path / name).write_text(name * 9)
    return tmp_path


def sha256sum(place: Path, *words: str) -> bytes:
    return subprocess.run(["sha256sum", *words], cwd=place, capture_output=True, check=True).stdout


def listed(place: Path, content: bytes) -> Path:
    path = place / "list"
    path.write_bytes(content)
    return path


# -- one bad file -----------------------------------------------------------------------


def gone(path: Path) -> None:
    path.unlink()


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def on_proc(path: Path) -> None:
    path.unlink()
    path.symlink_to("/proc/self/status")


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def looping(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


SPOILED = [gone, directory, fifo, on_proc, dangling, looping, device]


@pytest.mark.parametrize("spoil", SPOILED)
def test_verify_when_one_is_no_file_then_the_others_are_checked(
    real: Path, three: Path, spoil: Callable[[Path], None]
) -> None:
    listed(three, sha256sum(three, "a", "b", "c"))
    spoil(three / "b")
    done = command(real, "verify", "list", cwd=three)
    assert (done.status, done.out) == (1, "a: OK\nb: FAILED open or read\nc: OK\n")
    assert done.err.startswith('ktask: file "b": ')
    assert done.err.endswith("ktask: verify: 3 files, 1 findings\n")


@pytest.mark.parametrize("spoil", SPOILED)
def test_manifest_when_one_is_no_file_then_the_others_are_listed(
    real: Path, three: Path, spoil: Callable[[Path], None]
) -> None:
    wanted = sha256sum(three, "a", "c")
    spoil(three / "b")
    done = command(real, "manifest", "a", "b", "c", cwd=three)
    if spoil is directory:
        assert (done.status, done.out.encode()) == (0, wanted)
    else:
        assert (done.status, done.out.encode()) == (1, wanted)
        assert 'file "b": ' in done.err


@pytest.mark.parametrize("words", [("manifest", "."), ("verify", "list")])
def test_files_when_many_are_bad_then_each_is_named(
    real: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    lines = b""
    for i in range(60):
        if i % 3 == 1 and words[0] == "verify":
            (top / f"{i:02}").symlink_to("/proc/self/status")
        else:
            (top / f"{i:02}").write_text("x")
        lines += hashlib.sha256(b"x").hexdigest().encode() + b"  %02d\n" % i
    if words[0] == "verify":
        listed(top, lines)
        done = command(real, *words, cwd=top)
        assert done.out.splitlines() == [
            f"{i:02}: {'FAILED open or read' if i % 3 == 1 else 'OK'}" for i in range(60)
        ]
        assert done.err.count('is on "proc"') == 20
    else:
        assert len(command(real, *words, cwd=top).out.splitlines()) == 60


@pytest.mark.parametrize("most", [40, 64])
def test_files_when_few_may_be_open_then_all_in_smaller_batches(
    real: Path, tmp_path: Path, most: int
) -> None:
    names = [f"{i:03}" for i in range(120)]
    for name in names:
        (tmp_path / name).write_text(name)

    limited = ("prlimit", f"--nofile={most}")
    made = command(real, "manifest", *names, cwd=tmp_path, through=limited)
    assert (made.status, made.err, len(made.out.splitlines())) == (0, "", 120)
    listed(tmp_path, made.out.encode())
    assert command(real, "verify", "--quiet", "list", cwd=tmp_path, through=limited) == Ended(0, "", "")


# -- empty lists, and the output file ---------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# a comment\n", b"mistyped\n", b"0" * 63 + b"  a\n"])
def test_verify_when_nothing_can_be_checked_then_a_failure(real: Path, three: Path, content: bytes) -> None:
    listed(three, content)
    for words, given in ((("list",), b""), (("-",), content)):
        done = command(real, "verify", *words, cwd=three, input=given)
        assert (done.status, done.out) == (1, "")
        assert "no properly formatted line, wanted 64 hexadecimal digits of sha256 or blake3" in done.err
    assert subprocess.run(["sha256sum", "-c", "list"], cwd=three, capture_output=True).returncode == 1


def test_manifest_when_there_is_nothing_then_a_failure_and_the_list_is_left(real: Path, three: Path) -> None:
    (three / "empty").mkdir()
    (three / "tree").mkdir()
    (three / "tree/f").write_text("f")
    (three / "link").symlink_to("tree")
    before = listed(three, sha256sum(three, "a")).read_bytes()
    for path, problem in (
        ("mistyped", "No such file or directory"),
        ("empty", "there is no file to list"),
        ("link", 'a link to a directory; "link/" lists its files'),
    ):
        done = command(real, "manifest", "--output", "list", path, cwd=three)
        assert (done.status, done.out) == (1, "")
        assert problem in done.err
        assert '"list" is left as it was' in done.err
        assert (three / "list").read_bytes() == before
    assert sorted(os.listdir(three)) == ["a", "b", "c", "empty", "link", "list", "tree"]
    assert command(real, "manifest", "link/", cwd=three).out.endswith("  link/f\n")


@pytest.mark.parametrize("there", [True, False])
def test_manifest_when_it_goes_into_its_own_tree_then_it_leaves_itself_out(
    real: Path, three: Path, there: bool
) -> None:
    wanted = sha256sum(three, "./a", "./b", "./c")
    if there:
        listed(three, b"old")
        (three / "list").chmod(0o640)
    assert command(real, "manifest", "--output", "list", ".", cwd=three) == Ended(0, "", "")
    assert (three / "list").read_bytes() == wanted
    assert not there or (three / "list").stat().st_mode & 0o777 == 0o640
    assert command(real, "verify", "--quiet", "list", cwd=three) == Ended(0, "", "")
    with (three / "out").open("wb") as out:
        subprocess.run([KTASK, "manifest", "."], env=environment(real), stdout=out, cwd=three, timeout=WAIT_S)
    assert command(real, "verify", "--quiet", "out", cwd=three) == Ended(0, "", "")
    assert (three / "out").read_bytes().count(b"\n") == 4


def test_manifest_when_the_output_is_a_link_then_what_it_names_is_replaced(real: Path, three: Path) -> None:
    (three / "sub").mkdir()
    (three / "sub/real").write_text("old")
    (three / "list").symlink_to("sub/real")
    assert command(real, "manifest", "--output", "list", "a", cwd=three).status == 0
    assert (three / "list").is_symlink()
    assert (three / "sub/real").read_bytes() == sha256sum(three, "a")
    assert command(real, "manifest", "--output", "/dev/null", "a", cwd=three) == Ended(0, "", "")
    assert command(real, "manifest", "--output", "-", "a", cwd=three).out.encode() == sha256sum(three, "a")
    assert not (three / "-").exists()


def test_dash_when_listed_then_standard_input_as_sha256sum(real: Path, three: Path) -> None:
    made = command(real, "manifest", "-", "a", cwd=three, input=b"from a pipe")
    assert made.out == hashlib.sha256(b"from a pipe").hexdigest() + "  -\n" + sha256sum(three, "a").decode()
    listed(three, made.out.encode())
    assert command(real, "verify", "list", cwd=three, input=b"from a pipe").out == "-: OK\na: OK\n"
    same = command(real, "verify", "-", cwd=three, input=made.out.encode())
    assert (same.status, same.out) == (0, "a: OK\n")
    assert "1 line is improperly formatted" in same.err


# -- forms of lists ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"".join(line[:64].upper() + line[64:] + b"\n" for line in text.splitlines()),
        lambda text: text.replace(b"  ", b" *"),
        lambda text: text.replace(b"  ", b" "),
        lambda text: text + b"some text\n",
        lambda text: text.rstrip(b"\n"),
        lambda text: text.replace(b"\n", b"\0"),
        lambda text: b"# comment\n\n" + text,
    ],
)
def test_verify_when_sha256sum_accepts_it_then_so_do_we(
    real: Path, three: Path, change: Callable[[bytes], bytes]
) -> None:
    listed(three, change(sha256sum(three, "a", "b", "c")))
    done = command(real, "verify", "list", cwd=three)
    assert (done.status, done.out) == (0, "a: OK\nb: OK\nc: OK\n")
    assert ("1 line is improperly formatted: 4" in done.err) == (
        b"some text" in (three / "list").read_bytes()
    )


def test_verify_when_tagged_then_by_the_algorithm_of_the_tag(real: Path, three: Path) -> None:
    tagged = f"BLAKE3 (c) = {blake3(b'c' * 9).hexdigest()}\n".encode()
    listed(three, sha256sum(three, "--tag", "a", "b") + tagged)
    for words in ([], ["--algorithm", "blake3"], ["--algorithm", "sha256"]):
        done = command(real, "verify", "list", *words, cwd=three)
        assert (done.status, done.out) == (0, "a: OK\nb: OK\nc: OK\n")


def test_verify_when_the_algorithm_is_not_said_then_it_is_found_out(real: Path, three: Path) -> None:
    made = command(real, "manifest", "--algorithm", "blake3", "a", "b", "c", cwd=three)
    listed(three, made.out.encode())
    assert command(real, "verify", "list", cwd=three) == Ended(0, "a: OK\nb: OK\nc: OK\n", "")
    assert command(real, "verify", "--algorithm", "sha256", "list", cwd=three).status == 1
    mixed = made.out.splitlines(keepends=True)[0].encode() + sha256sum(three, "b", "c")
    listed(three, mixed)
    (three / "c").write_text("changed")
    done = command(real, "verify", "list", cwd=three)
    assert (done.status, done.out) == (1, "a: OK\nb: OK\nc: FAILED\n")


def test_verify_when_all_files_but_one_have_changed_then_said_so(real: Path, three: Path) -> None:
    made = command(real, "manifest", "--algorithm", "blake3", "a", "b", "c", cwd=three)
    listed(three, made.out.encode())
    for name in "ab":
        (three / name).write_text("changed")
    assert command(real, "verify", "list", cwd=three).out == "a: FAILED\nb: FAILED\nc: OK\n"


def test_verify_when_blocks_are_damaged_then_the_others_are_checked(real: Path, three: Path) -> None:
    (three / "big").write_bytes(os.urandom(3 << 20))
    made = command(real, "manifest", "--block", "1M", "big", "a", cwd=three).out.splitlines(keepends=True)
    assert len(made) == 5
    listed(three, "".join(made[:2] + made[3:]).encode())
    done = command(real, "verify", "list", cwd=three)
    assert done.status == 1
    assert done.out.startswith("big: FAILED line 4: is no digest of a block, there are 2 of 3 digests\n")
    assert done.out.endswith("a: OK\n")


# -- names ------------------------------------------------------------------------------

NAMES = [
    *(b"new\nline", b"x: OK\ny", b"back\\slash", b"cr\rname", b"-leading", b" spaces  ", b"\xff\xfe"),
    *("ü€".encode(), b"#hash", b"*star", b"(a) = b", b"n" * 255, b"\x1b[1A"),
]


def test_names_when_of_any_bytes_then_a_line_each_and_nothing_forged(real: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for i, name in enumerate(NAMES):
        Path(os.fsdecode(os.path.join(os.fsencode(tree), name))).write_text(str(i))
    made = command(real, "manifest", "--output", "list", "tree", cwd=tmp_path)
    assert (made.status, made.err) == (0, "")
    theirs = subprocess.run(["sha256sum", "-c", "--strict", "list"], cwd=tmp_path, capture_output=True)
    assert (theirs.returncode, theirs.stdout.count(b": OK\n")) == (0, len(NAMES))
    (tree / "x: OK\ny").write_text("changed")
    done = command(real, "verify", "list", cwd=tmp_path)
    assert done.status == 1
    lines = done.out.split("\n")[:-1]
    assert len(lines) == len(NAMES)
    assert [line for line in lines if not line.endswith(": OK")] == [r"\tree/x: OK\ny: FAILED"]
    assert "tree/x: OK" not in lines


def test_files_when_as_json_then_one_document_with_names(real: Path, three: Path) -> None:
    (three / os.fsdecode(b"\xff\n")).write_text("odd")
    made = json.loads(command(real, "manifest", "--json", ".", cwd=three).out)
    assert [os.fsencode(one["name"]) for one in made["files"]] == [b"./a", b"./b", b"./c", b"./\xff\n"]
    assert made["files"][0]["digest"] == hashlib.sha256(b"a" * 9).hexdigest()
    assert command(real, "manifest", "--json", ".", "--output", "x", cwd=three).status == 2
    listed(three, sha256sum(three, "a", "b", "c") + b"none\n")
    (three / "b").write_text("changed")
    (three / "c").unlink()
    done = command(real, "verify", "--json", "list", cwd=three)
    document = json.loads(done.out)
    assert done.status == 1
    assert document == {
        "files": [
            {"name": "a", "ok": True, "problems": []},
            {"name": "b", "ok": False, "problems": ["digest"]},
            {"name": "c", "ok": False, "problems": ["No such file or directory"]},
        ],
        "findings": 2,
        "badLines": 1,
    }


def test_manifest_when_of_a_deep_tree_then_all_of_it(real: Path, tmp_path: Path) -> None:
    descend = "d/" * 600
    os.makedirs(tmp_path / descend)
    (tmp_path / descend / "f").write_text("deep")
    assert command(real, "manifest", "d", cwd=tmp_path).out.endswith(f"  {descend}f\n")
