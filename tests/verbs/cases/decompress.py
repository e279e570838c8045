"""Decompression, beside zstd and gzip."""

from __future__ import annotations

from tests.verbs.model import Case

FILES = r"""
seq 200000 > a
seq 3 > b
: > empty
zstd -q --rm a b empty
"""

GZIP = r"""
seq 200000 > a
seq 3 > b
touch -d '2020-02-03 04:05:06' a b
gzip a b
"""

CUT = FILES + "head -c 1000 a.zst > cut.zst\n"
WRONG = FILES + "echo this is not compressed > wrong.zst\n"
GARBAGE = GZIP + "echo garbage >> a.gz\n"

SAME_TIME = "\ntouch -d '2020-02-03 04:05:06' -- *\n"


def both(title: str, words: str, *, given: str = FILES, differs: str = "") -> Case:
    """The same words for zstd -q -d and ktask decompress."""
    return Case(
        title,
        f"zstd -q -d {words}",
        f"ktask decompress {words}",
        given + SAME_TIME,
        differs,
        mtimes=not differs,
    )


def gzip(title: str, words: str, *, given: str = GZIP, differs: str = "") -> Case:
    """The same words for gzip -d and ktask decompress."""
    return Case(
        title, f"gzip -d {words}", f"ktask decompress {words}", given + SAME_TIME, differs, mtimes=not differs
    )


CASES = [
    both("a file", "a.zst"),
    both("several files", "a.zst b.zst empty.zst"),
    both("standard output, one that is cut off and another", "-c cut.zst b.zst | tail -c 6", given=CUT),
    both("removed", "--rm a.zst"),
    both("another name", "-o x a.zst"),
    both("a file that exists", "a.zst", given=FILES + "echo old > a\n"),
    both("a file that exists, replaced", "-f a.zst", given=FILES + "echo old > a\n"),
    both("standard output", "-c a.zst"),
    both("standard output of several files", "-c a.zst b.zst"),
    both("standard input", "< a.zst"),
    both("standard input, as -", "- < a.zst"),
    both("private", "a.zst", given=FILES + "chmod 600 a.zst\n"),
    both("another owner", "a.zst", given=FILES + "chown 12345:23456 a.zst\n"),
    both("an unknown suffix", "x.txt", given=FILES + "mv a.zst x.txt\n"),
    both("an unknown suffix to standard output", "-c x.txt", given=FILES + "mv a.zst x.txt\n"),
    both("a tar", "x.tzst", given=FILES + "mv a.zst x.tzst\n"),
    both("a missing file", "nosuch.zst"),
    both("a missing file between others", "a.zst nosuch.zst b.zst"),
    both("a directory", "x.zst", given=FILES + "mkdir x.zst\n"),
    both("not compressed", "wrong.zst", given=WRONG),
    both("cut off", "cut.zst", given=CUT),
    both("cut off, and others", "cut.zst a.zst", given=CUT),
    both("empty", "x.zst", given=FILES + ": > x.zst\n"),
    both("two frames", "x.zst", given=FILES + "cat a.zst b.zst > x.zst\n"),
    both("an unknown option", "--nosuch a.zst"),
    gzip("gzip", "a.gz"),
    gzip("gzip, several", "a.gz b.gz"),
    gzip("gzip, kept", "-k a.gz"),
    gzip("gzip, standard output", "-c a.gz b.gz"),
    gzip("gzip, standard input", "< a.gz"),
    gzip("gzip, a tar", "x.tgz", given=GZIP + "mv a.gz x.tgz\n"),
    gzip("gzip, a missing file", "nosuch.gz"),
    gzip("gzip, garbage behind it", "a.gz", given=GARBAGE),
    gzip("gzip, garbage behind it, and a missing file", "a.gz nosuch.gz", given=GARBAGE),
    gzip("gzip, two members", "x.gz", given=GZIP + "cat a.gz b.gz > x.gz\n"),
    Case(
        "a stream of many frames",
        "zstd -q -dc big.zst | sha256sum",
        "cat big.zst | ktask decompress | sha256sum",
        "seq 12000000 > big; for i in 1 2 3; do split -b 9000000 --filter='zstd -q' big; done > big.zst\n",
    ),
    Case(
        "a stream of frames with and without their size",
        "cat a.zst x a.zst | zstd -q -d",
        "cat a.zst x a.zst | ktask decompress",
        FILES + "seq 1000 | zstd -q > x\n",
    ),
    Case(
        "a stream with garbage behind it",
        "cat a.zst garbage | zstd -q -d",
        "cat a.zst garbage | ktask decompress",
        FILES + "echo garbage > garbage\n",
    ),
    Case(
        "a stream that is cut off",
        "head -c 99999 a.zst | zstd -q -d | sha256sum",
        "head -c 99999 a.zst | ktask decompress | sha256sum",
        FILES,
        differs="ktask writes whole blocks of a cut frame not at all",
    ),
    Case(
        "a stream of a frame that decoders skip",
        "zstd -q -dc < x",
        "ktask decompress < x",
        r"printf '\120\052\115\030\003\000\000\000abc' > x",
    ),
    Case("an empty stream", "cat /dev/null | zstd -q -d", "cat /dev/null | ktask decompress", FILES),
    Case("a pipe", "cat a.zst b.zst | zstd -q -d", "cat a.zst b.zst | ktask decompress", FILES),
    Case(
        "a pipe of a tar",
        "cat x.zst | zstd -q -d | tar t",
        "cat x.zst | ktask decompress | tar t",
        "echo 1 > a; echo 2 > b; tar c a b | zstd -q > x.zst\n",
    ),
    Case(
        "the output of ktask",
        "zstd -q -c a | zstd -q -d",
        "ktask compress -c a | ktask decompress",
        "seq 200000 > a\n",
    ),
]
