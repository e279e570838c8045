"""Lines that match, beside grep -E."""

from __future__ import annotations

from tests.verbs.model import Case

FILES = r"""
mkdir -p t/u
printf 'one\ntwo\nthree two\nfour' > a
printf 'two two\n' > t/b
printf 'x\n\ntwo\n' > t/u/c
: > empty
printf 'a\0two\n' > zero
printf 'two\ncaf\351 two\ntwo\n' > latin
printf -- '-x\n[b]\na\\c\n' > signs
"""

BIG = "seq 400000 > big; (seq 100000; printf 'no newline 77') > last"


def both(title: str, words: str, given: str = FILES, differs: str = "") -> Case:
    """The same words for grep -E and for ktask search."""
    return Case(title, f"grep -E {words}", f"ktask search {words}", given, differs)


def fixed(title: str, words: str) -> Case:
    """The same words for grep -F and for ktask search -F."""
    return Case(title, f"grep -F {words}", f"ktask search -F {words}", FILES)


CASES = [
    both("one file", "two a"),
    both("several files", "two a t/b empty"),
    both("no match", "nosuch a"),
    both("an alternation", "'one|four' a"),
    both("a class", "'^[[:alpha:]]+$' a"),
    both("a repeat of a repeat", "'wo+?' a"),
    both("everything", "'' a"),
    both("everything of an empty file", "'' empty"),
    both("empty lines", "-n '^$' t/u/c"),
    both("numbers", "-n two a t/b"),
    both("counts", "-c two a t/b empty"),
    both("a count of one file", "-c two a"),
    both("names", "-l two a t/b empty"),
    both("names of the others", "-L two a t/b empty"),
    both("upper and lower case", "-i TWO a"),
    both("only the parts that match", "-o 't.o' a t/b"),
    both("parts with numbers", "-on 't.o' a t/b"),
    both("the longest part", "-o 'o|one|on' a"),
    both("whole lines", "-x two a t/u/c"),
    both("whole words", "-w 'thre|two' a"),
    both("the others", "-v two a"),
    both("a count of the others", "-vc two a empty"),
    both("two patterns", "-e one -e four a"),
    both("patterns in lines", "'one\nfour' a"),
    both("a pattern with a dash", "-e -x signs"),
    both("a pattern after two dashes", "-- -x signs"),
    both("a backslash in brackets", r"'[\]' signs"),
    both("at most one line", "-m1 two a t/b"),
    both("at most no line", "-m 0 two a"),
    both("quiet", "-q two a"),
    both("quiet, no match", "-q nosuch a"),
    both("quiet, a match before a missing file", "-q two a nosuch"),
    both("a missing file", "two nosuch a"),
    both("a missing file, silent", "-s two nosuch a"),
    both("a directory", "two t"),
    both("a tree", "-r two t | sort"),
    both("a tree of the working directory", "-rc two | sort"),
    both("names in a tree", "-rl two . | sort"),
    both("a file of a tree", "-r two a"),
    both("names always", "-H two a"),
    both("names never", "--no-filename two a t/b"),
    both("colours", "--color=always -n two a t/b"),
    both("standard input", "-n two < a"),
    both("standard input among files", "-c two - t/b < a"),
    Case("a pipe", "seq 100000 | grep -En 77", "seq 100000 | ktask search -n 77"),
    both("a zero byte", "two zero"),
    both("a zero byte, as text", "-a two zero"),
    both("bytes that are no text", "-n two latin"),
    both("bytes that are no text, as text", "-a two latin"),
    both("a large file", "-n 99 big", BIG),
    both("a large file without its last newline", "77 last", BIG),
    both("large files", "-c 7 big last", BIG),
    both("some lines of a large file", "-nm 5 99 big", BIG),
    both("a bracket that is not closed", "'[' a"),
    both("a backslash at the end", r"'a\' a"),
    both("no words", ""),
    both("an unknown option", "--nosuch two a"),
    fixed("a literal", "two a"),
    fixed("a literal with signs", "'[b]' signs"),
    fixed("literals in lines", "'[b]\na\\c' signs"),
    fixed("a literal as a whole line", "-x two a"),
    both("a closed pipe", "1 big | head -n 1", BIG),
    both(
        "a back-reference", r"'(t)wo\1' a", differs="RE2 has no back-references: they take exponential time"
    ),
    both(
        "a count of lines with zero bytes",
        "-c a zero2",
        "printf 'a\\0a\\n' > zero2",
        differs="grep counts a zero byte as the end of a line",
    ),
]
