"""The first difference of two files, beside cmp."""

from __future__ import annotations

from tests.verbs.model import Case

FILES = r"""
printf 'one\ntwo\nthree\n' > a
printf 'one\ntwX\nthree\n' > b
printf 'one\ntwo' > part
printf 'one\n' > line
: > empty
cp a same
head -c 5000000 /dev/zero > zeros
truncate -s 5000000 hole
(head -c 4999999 /dev/zero; printf x) > last
"""

ODD = r"""
printf 1 > 'with blank'
printf 2 > 'back\slash'
printf 3 > "$(printf 'new\nline')"
printf 4 > -s
"""


def both(title: str, words: str, given: str = FILES, differs: str = "") -> Case:
    """The same words for cmp and for ktask compare."""
    return Case(title, f"cmp {words}", f"ktask compare {words}", given, differs)


CASES = [
    both("equal", "a same"),
    both("a file and itself", "a a"),
    both("different", "a b"),
    both("different, the other way", "b a"),
    both("different at the first byte", "a zeros"),
    both("a beginning that ends inside a line", "a part"),
    both("a beginning that ends with a line", "a line"),
    both("a beginning, the other way", "part a"),
    both("an empty file", "a empty"),
    both("two empty files", "empty /dev/null"),
    both("the last byte of a large file", "zeros last"),
    both("a hole and zeros", "zeros hole"),
    both("a hole, and zeros with a difference", "hole last"),
    both("silent, equal", "-s a same"),
    both("silent, different", "-s a b"),
    both("silent, a beginning", "-s a part"),
    both("quiet", "--quiet a b"),
    both("silent, long option", "--silent a b"),
    both("a missing file", "a nosuch"),
    both("a missing first file", "nosuch a"),
    both("a directory", "a ."),
    both("no words", ""),
    both("an unknown option", "--nosuch a b"),
    both("standard input from a file", "a - < b"),
    both("standard input that is not named", "a < b"),
    both("standard input first", "- b < a"),
    both("standard input, equal", "a - < same"),
    Case("a pipe", "cmp a - <<E\none\nE", "ktask compare a - <<E\none\nE", FILES),
    both("a device", "a /dev/null"),
    both("a link", "a l", FILES + "ln -s b l"),
    both("odd names", "'with blank' 'back\\slash'", ODD),
    both("a name with a line end", """ 'with blank' "$(printf 'new\\nline')" """.strip(), ODD),
    both("a name that looks like an option", "-- -s 'with blank'", ODD),
    both("three files", "a b same same2 x", FILES),
]
