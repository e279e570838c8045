"""Compression, beside zstd and gzip; their own decoders read what ktask wrote."""

from __future__ import annotations

from tests.verbs.model import Case

FILES = r"""
seq 200000 > a
seq 3 > b
: > empty
"""

SAME_TIME = "\ntouch -d '2020-02-03 04:05:06' -- *\n"

DECODED = 'for x in ./*.zst; do zstd -q -d -f --rm "$x" -o "$x.plain"; done'


def both(title: str, words: str, *, given: str = FILES, after: str = "", differs: str = "") -> Case:
    """The same words for zstd -q and ktask compress; the archives are decoded, since their bytes differ."""
    plain = f"; status=$?; {after or DECODED}; exit $status"
    return Case(
        title,
        f"zstd -q {words}{plain}",
        f"ktask compress {words}{plain}",
        given + SAME_TIME,
        differs,
        mtimes=not differs,
    )


def gzip(title: str, words: str, *, given: str = FILES, differs: str = "") -> Case:
    """The same words for gzip and ktask compress --format gzip."""
    plain = "; status=$?; for x in ./*.gz; do gzip -df $x; done; exit $status"
    return Case(
        title,
        f"gzip {words}{plain}",
        f"ktask compress --format gzip {words}{plain}",
        given + SAME_TIME,
        differs,
        mtimes=not differs,
    )


def stream(title: str, before: str, words: str = "", after: str = "zstd -dc") -> Case:
    """A stream through both."""
    return Case(
        title, f"zstd -q {words} {before} | {after}", f"ktask compress {words} {before} | {after}", FILES
    )


CASES = [
    both("a file", "a"),
    both("several files", "a b empty"),
    both("keep, which is usual", "-k a"),
    both("remove", "--rm a"),
    both("a fast level", "-1 a"),
    both("a small level", "-19 b"),
    both("a level and workers", "-3 -T2 a"),
    both("another name", "-o x.zst a"),
    both("another name for an empty file", "-o x.zst empty"),
    both("a file that exists", "a", given=FILES + "echo old > a.zst\n", after="cat a.zst"),
    both("a file that exists, replaced", "-f a", given=FILES + "echo old > a.zst\n"),
    both("another name that exists", "-o x.zst a", given=FILES + "echo old > x.zst\n", after="cat x.zst"),
    both("a missing file", "nosuch"),
    both("a missing file between others", "a nosuch b"),
    both("a directory between others", "a . b"),
    both("private", "a", given=FILES + "chmod 600 a\n"),
    both("readable only", "a", given=FILES + "chmod 444 a\n"),
    both("executable", "a", given=FILES + "chmod 755 a\n"),
    both("another owner", "a", given=FILES + "chown 12345:23456 a\n"),
    both("a link", "l", given=FILES + "ln -s a l\n"),
    both("a link, forced", "-f l", given=FILES + "ln -s a l\n"),
    both(
        "a link, to standard output",
        "-c l | zstd -dc",
        given=FILES + "ln -s a l\n",
        after=":",
        differs="zstd refuses links here as well; ktask reads the file that it names",
    ),
    both("a file over itself", "-f -o a a"),
    both("two levels", "-1 -3 a"),
    Case("standard output, named", "zstd -q -c a | zstd -dc", "ktask compress -o - a | zstd -dc", FILES),
    both("a long distance", "--long a"),
    both("a longer distance", "--long=24 a"),
    gzip("gzip, a link", "l", given=FILES + "ln -s a l\n"),
    gzip(
        "gzip, a file with another name",
        "a",
        given=FILES + "ln a other\n",
        differs="gzip calls that a warning, with status 2",
    ),
    both("an odd name", "'with blank' -- -x", given="echo 1 > 'with blank'; echo 2 > -x\n"),
    both("an unknown option", "--nosuch a"),
    gzip("gzip", "a"),
    gzip("gzip, several", "a b empty"),
    gzip("gzip, kept", "-k a"),
    gzip("gzip, a level", "-9 a"),
    gzip("gzip, a file that exists", "-f a", given=FILES + "echo old > a.gz\n"),
    gzip("gzip, private", "a", given=FILES + "chmod 600 a\n"),
    gzip("gzip, a missing file", "nosuch"),
    stream("standard input", "< a"),
    stream("standard input, as -", "< a", "-"),
    stream("standard input that is empty", "< empty"),
    stream("standard output", "a", "-c"),
    stream("standard output of several files", "a b empty", "-c"),
    Case(
        "a stream of several pieces",
        "zstd -q < big | zstd -dc | sha256sum",
        "cat big | ktask compress | zstd -dc | sha256sum",
        "seq 7000000 > big\n",
    ),
    Case(
        "a stream of several pieces by gzip",
        "gzip < big | gzip -dc | sha256sum",
        "cat big | ktask compress --format gzip -1 | gzip -dc | sha256sum",
        "seq 7000000 > big\n",
    ),
    Case(
        "tar",
        "tar --sort=name -c a b | zstd -q | tar -I zstd -t",
        "tar --sort=name -c a b | ktask compress | tar -I zstd -t",
        FILES,
    ),
    Case("a reader that leaves", "zstd -q -c a | head -c 0", "ktask compress -c a | head -c 0", FILES),
]
