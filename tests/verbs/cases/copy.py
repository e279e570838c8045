"""Copies, beside cp."""

from __future__ import annotations

from tests.verbs.model import Case

FILES = r"""
printf 'one\n' > a
printf 'two two\n' > b
chmod 640 a
chmod 751 b
mkdir -p d/e other
printf 'three\n' > d/c
printf 'four\n' > d/e/f
chmod 700 d/e
ln -s c d/link
ln -s nosuch d/dangling
mkfifo d/pipe
ln -s a to-a
touch -d '2020-01-02 03:04:05.123456789' a d/c d/e
printf 'old old old\n' > other/a
chmod 600 other/a
"""

ODD = r"""
mkdir out
printf 1 > 'with blank'
printf 2 > 'back\slash'
printf 3 > "$(printf 'new\nline')"
printf 4 > "$(printf 'latin\351')"
printf 5 > -x
"""


LONG = "truncate -s 20M long; seq 1000000 >> long; truncate -s 90M long; seq 100000 >> long"


def both(title: str, words: str, given: str = FILES, differs: str = "") -> Case:
    """The same words for cp and for ktask copy."""
    return Case(title, f"cp {words}", f"ktask copy {words}", given, differs)


CASES = [
    both("a new file", "a new"),
    both("an executable file", "b new"),
    both("with another umask", "a new", f"{FILES}\numask 077"),
    both("an existing file", "a other/a"),
    both("into a directory", "a other"),
    both("into a directory with a slash", "a other/"),
    both("several into a directory", "a b other"),
    both("a target directory as an option", "-t other a b"),
    both("never into a directory", "-T a other"),
    both("never into a directory, to a new file", "-T a new"),
    both("several to a file", "a b new"),
    both("several to an existing file", "a b d/c"),
    both("to a directory that is missing", "a nosuch/"),
    both("below a directory that is missing", "a nosuch/new"),
    both("the same file", "a a"),
    both("the same file through a link", "a to-a"),
    both("the same file in a directory", "a ."),
    both("a missing file", "nosuch new"),
    both("a missing file among others", "nosuch a other"),
    both("two files of one name", "a other/a d", f"{FILES}\nrm -r d\nmkdir d"),
    both("a directory without -r", "d new"),
    both("a directory among files", "a d b other"),
    both("a tree", "-r d new"),
    both("a tree into a directory", "-r d other"),
    both("a tree into one that exists", "-r d/. other", f"{FILES}\nmkdir other/e"),
    both("a tree into itself", "-r d d/e", differs="cp notices it only after it has copied some files"),
    both("a tree over a file", "-r d a"),
    both("a file over a directory", "-T a d"),
    both("a link that is followed", "to-a new"),
    both("a link as a link", "-P to-a new"),
    both("a link in a tree that is followed", "-rL d/e to-a other"),
    both("a dangling link", "d/dangling new"),
    both("onto a dangling link", "a d/dangling"),
    both("onto a link", "b to-a"),
    both("mode, owner and times", "-p a new && stat -c %y new"),
    both("times of an existing file", "-p a other && stat -c %y other/a"),
    both("a tree with mode, owner and times", "-rp d new && stat -c %y new/c new/e"),
    both("an archive", "-a d new"),
    both("an archive with hard links", "-a h new", f"{FILES}\nmkdir h\ncp a h/1\nln h/1 h/2"),
    both("set-user-ID", "s new", f"{FILES}\ncp a s\nchmod 6755 s"),
    both("set-user-ID, kept", "-p s new", f"{FILES}\ncp a s\nchmod 6755 s"),
    both("no clobber", "-n a other"),
    both("verbose", "-v a new"),
    both("verbose, a tree", "-rv d/e new"),
    both("an empty file", "empty new", ": > empty"),
    both("names with odd characters", "*[!t] out", f"{ODD}\nrm -- -x"),
    both("a name with a dash", "-- -x out/", ODD),
    both("from a pipe", "/dev/stdin new < a"),
    both("to standard output", "a /dev/stdout"),
    both("to nothing", "a /dev/null"),
    both("from /proc", "/proc/version new"),
    both("holes", "hole new && stat -c %b new", "truncate -s 3M hole; printf x >> hole"),
    both("holes for zeros", "--sparse=always zeros new && stat -c %b new", "head -c 1M /dev/zero > zeros"),
    both("no holes", "--sparse=never hole new && stat -c %b new", "truncate -s 1M hole"),
    both("a long file", "long new && stat -c %b new", LONG),
    both("no words", ""),
    both("one word", "a"),
    both("an unknown option", "--nosuch a new"),
    Case("compared afterwards", "cp a new && cmp a new", "ktask copy --verify a new", FILES),
]
