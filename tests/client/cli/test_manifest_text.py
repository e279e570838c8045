"""The format of manifests, compared with sha256sum itself."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ktask.cli.manifest_text import (
    BlockedFile,
    BrokenEntry,
    Entry,
    Listed,
    WholeFile,
    digest_of,
    format_entry,
    parse,
)
from ktask.cli.sums.lines import escape

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
def test_entries_when_written_and_read_then_the_same(entries: list[WholeFile | BlockedFile]) -> None:
    assert parse(written(entries)) == Listed(list(entries), [])


@given(st.lists(st.builds(WholeFile, names, digests) | blocked(), max_size=5))
def test_entries_when_sent_through_dos_then_the_same(entries: list[WholeFile | BlockedFile]) -> None:
    assert parse(written(entries).replace(b"\n", b"\r\n")) == Listed(list(entries), [])


def written(entries: list[WholeFile | BlockedFile]) -> bytes:
    return b"".join(line for entry in entries for line in format_entry(entry))


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


@pytest.mark.parametrize("words", [[], ["--tag"], ["-z"], ["-b"], ["-z", "--tag"]])
def test_lines_when_of_sha256sum_then_read(words: list[str], tmp_path: Path) -> None:
    made = [os.path.join(os.fsencode(tmp_path), name) for name in NAMES]
    for name in made:
        Path(os.fsdecode(name)).write_bytes(name)
    done = subprocess.run(["sha256sum", *words, "--", *made], capture_output=True, check=True)
    algorithm = "sha256" if "--tag" in words else ""
    wanted: list[Entry] = [WholeFile(name, hashlib.sha256(name).hexdigest(), algorithm) for name in made]
    assert parse(done.stdout) == Listed(wanted, [])


HEAD = b"# ktask blocks algorithm=sha256 block=4 bytes=8 root=" + b"0" * 64 + b"  huge\n"
DIGEST = b"# " + b"1" * 64 + b"\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"\n" + HEAD + DIGEST, "line 2: the list ends, there are 1 of 2 digests"),
        (HEAD + b"# no\n", "line 2: is no digest of a block, there are 0 of 2 digests"),
        (HEAD + DIGEST * 2, f"line 1: root: got {'0' * 64}, but the blocks' digests have"),
        (HEAD.replace(b"block=4", b"block=0"), "line 1: block: got 0, wanted at least 1"),
        (HEAD.replace(b"sha256", b"md5"), 'line 1: algorithm: got "md5", wanted sha256 or blake3'),
    ],
)
def test_blocks_when_wrong_then_their_file_is_named_and_the_rest_is_read(text: bytes, problem: str) -> None:
    after = WholeFile(b"after", "a" * 64)
    found = parse(text + b"a" * 64 + b"  after\n")
    (broken, rest) = found.entries
    assert isinstance(broken, BrokenEntry)
    assert (broken.name, rest, found.bad_lines) == (b"huge", after, [])
    assert broken.problem.startswith(problem) or "is no digest of a block" in broken.problem


HEX = st.sampled_from([b"a" * 64, b"A" * 64, b"0" * 63, b"0" * 65, b"g" * 64])
LINES = st.one_of(
    st.tuples(
        st.sampled_from([b"", b" ", b"\t"]),
        st.sampled_from([b"", b"\\"]),
        HEX,
        st.sampled_from([b"  ", b" *", b" ", b"", b"\t", b"\t*", b" \t"]),
        st.sampled_from([b"f", b" f", b"*f", b"f ", b"a\\\\b", b"a\\nb", b"a\\", b"a\\x", b"", b"f)"]),
    ).map(b"".join),
    st.tuples(
        st.sampled_from([b"", b" ", b"\\"]),
        st.sampled_from([b"SHA256 ", b"SHA256", b"SHA256  ", b"sha256 ", b"SHA512 "]),
        st.sampled_from([b"(f)", b"(f", b"f)", b"(f (1))", b"(a\\nb)"]),
        st.sampled_from([b" = ", b"=", b" =", b" : "]),
        HEX,
        st.sampled_from([b"", b" "]),
    ).map(b"".join),
    st.sampled_from([b"", b"#", b"# comment", b" # none", b"text"]),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n"])).map(b"".join), max_size=6).map(b"".join))
def test_lines_when_any_then_read_as_sha256sum_does(text: bytes) -> None:
    """Names and counts that sha256sum reports in an empty directory."""
    found = parse(text)
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(["sha256sum", "-c"], input=text, cwd=place, capture_output=True, check=False)
    said = [line.removesuffix(b": FAILED open or read") for line in done.stdout.splitlines()]
    # Older versions escape a backslash only if the name also has a newline.
    assert len(said) == len(found.entries)
    for entry, line in zip(found.entries, said, strict=True):
        assert line in (entry.name, b"".join(escape(entry.name)))
    bad = re.search(rb"WARNING: (\d+) lines? (is|are) improperly", done.stderr)
    if said:
        assert len(found.bad_lines) == (int(bad[1]) if bad else 0)
