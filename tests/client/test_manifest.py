"""The text of manifests, against sha256sum itself."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.manifest import BlockedFile, Entry, ManifestInvalid, WholeFile, digest_of, format_entry, parse

NAMES = [
    b"a",
    b" lead",
    b"*star",
    b"back\\slash",
    b"line\nend",
    b"cr\rx",
    b"\xff\xfe",
    "ü€".encode(),
    b"# no comment",
]

names = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def blocked(draw: st.DrawFn) -> BlockedFile:
    block, size = draw(st.integers(1, 1000)), draw(st.integers(0, 5000))
    count = -(-size // block)
    found = draw(st.lists(digests, min_size=min(count, 20), max_size=min(count, 20)))
    return BlockedFile(draw(names), "sha256", block, min(size, 20 * block), tuple(found))


@given(st.lists(st.builds(WholeFile, names, digests) | blocked(), max_size=5))
def test_entries_when_written_and_read_then_the_same(entries: list[Entry]) -> None:
    text = b"".join(line for entry in entries for line in format_entry(entry))
    assert list(parse(lines(text))) == entries


def lines(text: bytes) -> list[bytes]:
    return [line + b"\n" for line in text.split(b"\n")[:-1]]


def test_lines_when_given_to_sha256sum_then_all_are_right(tmp_path: Path) -> None:
    text = b""
    for i, name in enumerate(NAMES):
        content = b"content %d" % i
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(content)
        text += b"".join(format_entry(WholeFile(name, hashlib.sha256(content).hexdigest())))
    text += b"".join(format_entry(BlockedFile(b"huge", "sha256", 4, 8, (digest_of("sha256", b"x"),) * 2)))
    done = subprocess.run(
        ["sha256sum", "-c", "--strict"], cwd=tmp_path, input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b": OK\n") == len(NAMES)


def test_lines_when_of_sha256sum_then_read(tmp_path: Path) -> None:
    for name in NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(name)
    done = subprocess.run(["sha256sum", "--", *NAMES], cwd=tmp_path, capture_output=True, check=True)
    assert list(parse(lines(done.stdout))) == [
        WholeFile(name, hashlib.sha256(name).hexdigest()) for name in NAMES
    ]


HEAD = b"# ktask blocks algorithm=sha256 block=4 bytes=8 root=" + b"0" * 64 + b"  huge\n"
DIGEST = b"# " + b"1" * 64 + b"\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"hello\n", "line 1: got b'hello', wanted 64 hexadecimal digits and a name"),
        (b"\n" + HEAD + DIGEST, "line 2: the manifest ends, wanted 2 of them, there are 1"),
        (HEAD + b"no\n", "line 2: got no digest of a block, wanted 2 of them, there are 0"),
        (HEAD + DIGEST * 2, "line 1: root: got 0{64}, but the blocks' digests have"),
        (HEAD.replace(b"block=4", b"block=0"), "line 1: block: got 0, wanted at least 1"),
        (HEAD.replace(b"sha256", b"md5"), 'line 1: algorithm: got "md5", wanted sha256 or blake3'),
    ],
)
def test_text_when_wrong_then_the_line_is_named(text: bytes, words: str) -> None:
    with pytest.raises(ManifestInvalid, match=words):
        list(parse(lines(text)))
