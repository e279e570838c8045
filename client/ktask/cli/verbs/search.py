"""The words of `ktask search`, like those of `grep -E`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ktask.cli.arguments import Parser, UsageError, parser_of
from ktask.cli.verbs import Verb

_EPILOG = """Prints the lines that match an extended regular expression, as grep -E does: the name of the
file comes first if there are several. Without FILE, "-" or the directory "." with -r is read.
Classes such as [[:alpha:]] and \\w contain ASCII only; \\d is a digit; there are no
back-references. Text after a zero byte, or that is not UTF-8 in such a locale, is not printed
without -a.

examples:
  ktask search 'error|warning' /var/log/syslog
  ktask search -c -F 404 access.log
  ktask search -rn TODO src
  ktask search -o '[0-9]+ ms' log | sort | uniq -c
  journalctl -b | ktask search -i oom

exit status: 0 a line matches, 1 none does, 2 a file cannot be read, or an error.
"""


class _Parser(Parser):
    """Takes the word after -e as it is."""

    def parse_words(self, args: Sequence[str], namespace: argparse.Namespace) -> argparse.Namespace:
        """As Parser; a pattern may begin with a dash."""
        words: list[str] = []
        rest = iter(args)
        for word in rest:
            following = next(rest, None) if word in ("-e", "--regexp") else None
            words.append(word if following is None else f"--regexp={following}")
            if word == "--":
                break
        return super().parse_words([*words, *rest], namespace)


def _parser() -> Parser:
    description = "Print the lines of files that match a pattern."
    parser = parser_of("search", description, _EPILOG, json=False, kind=_Parser)
    add = parser.add_argument
    add("words", nargs="*", metavar="PATTERN FILE", help='the pattern, and files; "-" is standard input')
    add("-e", "--regexp", dest="patterns", action="append", default=[], metavar="PATTERN", help="a pattern")
    add("-E", "--extended-regexp", action="store_true", help="patterns are expressions (the default)")
    add("-F", "--fixed-strings", dest="fixed", action="store_true", help="patterns are literal text")
    add("-i", "--ignore-case", action="store_true", help="treat upper and lower case as equal")
    add("-w", "--word-regexp", dest="word", action="store_true", help="only matches that are whole words")
    add("-x", "--line-regexp", dest="line", action="store_true", help="only matches that are whole lines")
    add("-v", "--invert-match", dest="invert", action="store_true", help="lines that do not match")
    add("-c", "--count", action="store_true", help="print how many lines match in each file")
    add("-n", "--line-number", dest="number", action="store_true", help="print the number of each line")
    add("-l", "--files-with-matches", dest="names", action="store_const", const="with", default="")
    add("-L", "--files-without-match", dest="names", action="store_const", const="without")
    add("-o", "--only-matching", dest="only", action="store_true", help="print only the parts that match")
    add("-m", "--max-count", type=_count, metavar="N", help="at most N lines of each file")
    add("-q", "--quiet", "--silent", dest="quiet", action="store_true", help="print nothing; stop at a match")
    add("-s", "--no-messages", dest="silent", action="store_true", help="no messages about unreadable files")
    add("-r", "-R", "--recursive", dest="recursive", action="store_true", help="all files below directories")
    add("-H", "--with-filename", dest="prefix", action="store_true", default=None, help="print file names")
    add("--no-filename", dest="prefix", action="store_false", default=None, help="print no file names")
    add("-a", "--text", action="store_true", help="treat all files as text")
    colors = ("never", "always", "auto")
    add("--color", "--colour", dest="color", nargs="?", const="always", default="auto", choices=colors)
    return parser


def _count(word: str) -> int:
    if not word.isascii() or not word.isdigit():
        raise argparse.ArgumentTypeError(f"got {word!r}, wanted a number")
    return int(word)


def _run(options: argparse.Namespace) -> int:
    if not options.patterns:
        if not options.words:
            raise UsageError('no pattern is given; see "ktask search --help"')
        options.patterns = [options.words.pop(0)]
    # Imported only now: a help text needs no gRPC.
    from ktask.cli.lazily import uncollected

    with uncollected():
        from ktask.cli.searching.searching import search
    return search(options)


VERB = Verb(_parser, _run, 2)
