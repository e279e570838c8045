"""Standard input and output as sources, names of items, and readers that leave."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import zlib
from pathlib import Path
from typing import Any

import ktask
import pytest

from tests.client.shell import KTASK, WAIT_S, environment
from tests.client.shell import ktask as command

DATA = b"some text, some text\n" * 5000


def piped(real: Path, *words: object, **more: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [KTASK, *map(str, words)], env=environment(real), capture_output=True, timeout=WAIT_S, **more
    )


def test_dash_when_between_pipes_then_a_filter(real: Path, tmp_path: Path) -> None:
    made = piped(real, "run", "file.compress", "src=-", "dst=-", "format=gzip", input=DATA, cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, b"")
    assert gzip.decompress(made.stdout) == DATA
    back = piped(real, "run", "file.decompress", "src=-", "dst=-", input=made.stdout, cwd=tmp_path)
    assert (back.returncode, back.stdout) == (0, DATA)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("skip", [0, 7])
def test_dash_when_a_file_then_from_where_it_stands(real: Path, tmp_path: Path, skip: int) -> None:
    (tmp_path / "in").write_bytes(DATA)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("ab") as target:
        os.lseek(source.fileno(), skip, os.SEEK_SET)
        words = [str(KTASK), "run", "file.copy", "src=-", "dst=-"]
        done = subprocess.run(words, env=environment(real), stdin=source, stdout=target, timeout=WAIT_S)
    assert done.returncode == 0
    assert (tmp_path / "out").read_bytes() == DATA[skip:]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("run mem.fill data=-", 'source "data": got "-", wanted a path: "mem.fill" changes an existing file'),
        ("run file.copy src=- dst=- --json", "--json: given with"),
        ("run file.copy src=- dst=- --detach", "--detach: given with"),
        ("run file.crc32 --items - -", "standard input is items[0] already"),
        ("hold one=-", "standard input: got a pipe, wanted a regular file"),
    ],
)
def test_dash_when_it_cannot_be_then_refused(real: Path, tmp_path: Path, words: str, problem: str) -> None:
    done = piped(real, *words.split(), input=DATA, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert problem in done.stderr.decode()
    assert os.listdir(tmp_path) == []


def test_dash_when_the_job_fails_then_nothing_is_written(real: Path, tmp_path: Path) -> None:
    done = piped(real, "run", "file.decompress", "src=-", "dst=-", input=b"no archive", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")


def test_garbage_when_behind_gzip_then_said_as_gzip_does(real: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(DATA) + b"garbage")
    done = command(real, "run", "file.decompress", "src=a.gz", "dst=a", cwd=tmp_path)
    assert (done.status, (tmp_path / "a").read_bytes()) == (0, DATA)
    assert done.err == 'ktask: source "src": decompression OK, trailing garbage ignored (7 bytes)\n'


def test_window_when_too_large_then_the_argument_is_named(real: Path, tmp_path: Path) -> None:
    made = subprocess.run(["zstd", "-q", "-c", "--long=28"], input=DATA, capture_output=True, check=True)
    (tmp_path / "a.zst").write_bytes(made.stdout)
    done = command(real, "run", "file.decompress", "src=a.zst", "dst=a", cwd=tmp_path)
    assert (done.status, (tmp_path / "a").exists()) == (1, False)
    assert "submit with window_log=28 to allow it" in done.err
    assert (
        command(real, "run", "file.decompress", "src=a.zst", "dst=a", "window_log=28", cwd=tmp_path).status
        == 0
    )
    assert (tmp_path / "a").read_bytes() == DATA


def test_items_when_more_than_a_job_takes_then_all_by_name(real: Path, tmp_path: Path) -> None:
    names = [f"{i}" for i in range(2499)] + ["back\\slash\nline"]
    for name in names:
        (tmp_path / name).write_text(name)
    done = command(real, "run", "file.crc32", "--items", *names, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [*names[:-1], r"\back\\slash\nline"]
    assert all(f"crc32={zlib.crc32(name.encode())}" in line for name, line in zip(names, lines, strict=True))
    document = json.loads(command(real, "run", "--json", "file.crc32", "--items", *names, cwd=tmp_path).out)
    results = [one for job in document["jobs"] for one in job["result"]["items"]]
    assert [one["name"] for one in results] == names
    assert results[-1]["crc32"] == zlib.crc32(names[-1].encode())


def test_version_when_as_json_then_json(tmp_path: Path) -> None:
    assert set(json.loads(command(tmp_path, "--json", "--version").out)) == {"version"}


@pytest.mark.parametrize("words", ["--help", "run --help", "--version", "status", "verify m", "manifest m"])
def test_output_when_nobody_reads_then_quietly_the_end(real: Path, tmp_path: Path, words: str) -> None:
    (tmp_path / "m").write_text("".join(f"{'0' * 64}  gone{i}\n" for i in range(9)))
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [KTASK, *words.split()],
            env=environment(real),
            stdout=write,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            timeout=WAIT_S,
        )
    finally:
        os.close(write)
    assert done.returncode in (0, 141)
    assert b"pipe" not in done.stderr.lower()
    assert b"Traceback" not in done.stderr


def test_items_when_more_than_a_user_may_hand_over_then_several_jobs(real: Path, tmp_path: Path) -> None:
    names = [tmp_path / str(i) for i in range(4500)]
    for name in names:
        name.write_text(name.name)
    with ktask.connect(real) as client:
        job = client.run("file.crc32", items=iter(names))
        assert job.result is not None
        assert [one["crc32"] for one in job.result["items"]] == [
            zlib.crc32(one.name.encode()) for one in names
        ]
        names[4400].unlink()
        with pytest.raises(FileNotFoundError):
            client.run("file.crc32", items=names)


@pytest.mark.parametrize(
    ("words", "closed", "problem"),
    [
        ("run file.crc32 data=-", 0, "standard input: it is closed"),
        ("verify -", 0, "standard input: it is closed"),
        ("hold a=-", 0, "standard input: it is closed"),
        ("run file.copy src=a dst=-", 1, "standard output: it is closed"),
    ],
)
def test_stream_when_closed_then_said(
    real: Path, tmp_path: Path, words: str, closed: int, problem: str
) -> None:
    (tmp_path / "a").write_text("a")
    without = ("sh", "-c", f'exec "$@" {closed}{"<" if closed == 0 else ">"}&-', "sh")
    done = command(real, *words.split(), cwd=tmp_path, through=without)
    assert done.status == 2
    assert problem in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", ["--help", "status", "manifest m", "run file.crc32 data=m", "--json jobs"])
def test_output_when_the_disk_is_full_then_said(real: Path, tmp_path: Path, words: str) -> None:
    (tmp_path / "m").write_text("x")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [KTASK, *words.split()],
            env=environment(real),
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            timeout=WAIT_S,
        )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"No space left on device" in done.stderr
