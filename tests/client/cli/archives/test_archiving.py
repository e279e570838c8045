"""`ktask compress` and `ktask decompress` leave nothing half done, and no file that others can read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.shell import KTASK, WAIT_S, environment, ktask
from tests.support.real_daemon import running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a daemon."""
    with running(tmp_path_factory.mktemp("archives") / "d") as daemon:
        yield daemon.place


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_file_when_the_command_is_ended_by_a_signal_then_no_new_one(
    place: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "a").write_bytes(os.urandom(48 << 20))
    words = [str(KTASK), "compress", "-19", "--rm", str(tmp_path / "a")]
    with subprocess.Popen(words, env=environment(place), stderr=subprocess.PIPE) as process:
        while len(os.listdir(tmp_path)) == 1:
            assert process.poll() is None
        process.send_signal(number)
        process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + number
    assert os.listdir(tmp_path) == ["a"]


def test_stream_when_its_reader_leaves_then_it_ends_quietly(place: Path) -> None:
    line = f"head -c 100000000 /dev/urandom | {KTASK} compress | head -c 10 > /dev/null"
    done = subprocess.run(
        ["sh", "-c", line], env=environment(place), capture_output=True, timeout=WAIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_stream_when_the_input_ends_slowly_then_all_of_it(place: Path) -> None:
    line = f"(printf one; printf two) | {KTASK} compress | {KTASK} decompress"
    done = subprocess.run(
        ["sh", "-c", line], env=environment(place), capture_output=True, timeout=WAIT_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"onetwo", b"")


def test_stream_when_it_is_cut_off_then_the_error_says_where_its_positions_begin(
    place: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(os.urandom(40 << 20))
    assert ktask(place, "compress", tmp_path / "a").status == 0
    with (tmp_path / "a.zst").open("r+b") as file:
        file.truncate(39 << 20)
    done = ktask(place, "decompress", "-c", tmp_path / "a.zst")
    found = re.search(r"positions count from byte (\d+) of the stream", done.err)
    assert done.status == 1
    assert found is not None
    assert 0 < int(found[1]) < 39 << 20


def test_decompressed_when_it_would_be_huge_then_an_error_and_no_file(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + b"\x01\x00\x00")
    done = ktask(place, "decompress", path)
    assert (done.status, done.out) == (1, "")
    assert str(path) in done.err
    assert os.listdir(tmp_path) == ["a.zst"]


@pytest.mark.parametrize(
    ("words", "changed"), [(["--rm"], "fail"), ([], "warn"), (["--format", "gzip"], "fail")]
)
def test_file_when_it_is_removed_in_the_end_then_it_must_not_change_meanwhile(
    place: Path, tmp_path: Path, words: list[str], changed: str
) -> None:
    (tmp_path / "a").write_text("a")
    assert ktask(place, "compress", *words, tmp_path / "a").status == 0
    assert (tmp_path / "a").exists() == (changed == "warn")
    (spec,) = [json.loads(ktask(place, "show", "last", "--json").out)["spec"]]
    assert spec["arg"]["changed"] == changed
    given = str(tmp_path / "a")
    assert spec["sources"]["src"]["name"] == given
    assert spec["sources"]["dst"]["name"] == given + (".gz" if "gzip" in words else ".zst")


def test_name_when_it_is_of_a_device_then_refused_and_still_there(place: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/null")
    for target in ("fifo", "link", "."):
        done = ktask(place, "compress", "-f", "-o", tmp_path / target, tmp_path / "a")
        assert (done.status, done.out) == (1, "")
        assert "wanted a regular file" in done.err
    assert sorted(os.listdir(tmp_path)) == ["a", "fifo", "link"]
    assert os.readlink(tmp_path / "link") == "/dev/null"


def test_options_when_they_contradict_each_other_then_1_and_nothing_is_made(
    place: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    for words in (["-k", "--rm"], ["-o", "x", "-c"], ["--format", "gzip", "-10"], ["-20"]):
        done = ktask(place, "compress", *words, path)
        assert (done.status, done.out) == (1, "")
        assert done.err
    assert os.listdir(tmp_path) == ["a"]
