"""`ktask sum`: checksums of files, and lists of checksums checked, as by sha256sum, b3sum and cksum."""

from __future__ import annotations

import argparse

from ktask.cli.arguments import Parser, UsageError, parser_of
from ktask.cli.verbs import Verb

NAMES = ("sha256", "sha512", "blake3", "crc32", "crc32c", "xxh3")

_EPILOG = """Without FILE, and for "-", standard input is read. A list may have lines of sha256sum, b3sum
and cksum, of --tag and of BSD, DOS line ends and upper-case digits. Its tagged lines name
their algorithm; -a names that of the others. Without -a lines of 64 digits are sha256 or
blake3, whichever matches, of 128 sha512, and of 16 xxh3. A file that cannot be read is
reported, and does not stop the others.

examples:
  ktask sum *.iso                  lines as of sha256sum
  ktask sum -a blake3 -r tree      all files below a directory, lines as of b3sum
  ktask sum -r . > ../SUMS         a list of a tree
  ktask sum -c --quiet ../SUMS     print only files that do not match
  tar c . | ktask sum              of a stream

exit status: 0 done, 1 a file could not be read or does not match, or an error.
"""

_CHECK_ONLY = ("ignore_missing", "status", "quiet", "strict", "warn")
"""Options that need -c."""


def _parser() -> Parser:
    parser = parser_of("sum", "Print or check checksums of files.", _EPILOG, json=False)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="a file; with -c, a list of checksums")
    add("-a", "--algorithm", choices=NAMES, help="the checksum (default: sha256)")
    add("-c", "--check", action="store_true", help="check the files of lists")
    add("-r", "--recursive", action="store_true", help="all files below directories, without links")
    add("--tag", action="store_true", help="print lines as of BSD, which name the algorithm")
    add("-z", "--zero", action="store_true", help="end lines with a zero byte, and escape no names")
    add("-b", "--binary", action="store_true", help='print "*" in front of names')
    add("-t", "--text", action="store_true", help="print a blank in front of names (the default)")
    add("-q", "--quiet", action="store_true", help="with -c: print only files that do not match")
    add("--status", action="store_true", help="with -c: print no results; the exit status has them")
    add("--strict", action="store_true", help="with -c: exit 1 for a line in no known format as well")
    add("--ignore-missing", action="store_true", help="with -c: skip files that do not exist")
    add("-w", "--warn", action="store_true", help="with -c: report each line in no known format")
    return parser


def _run(options: argparse.Namespace) -> int:
    _check_options(options)
    # Imported only now: a help text needs no gRPC.
    from ktask.cli.lazily import uncollected

    with uncollected():
        from ktask.cli.sums.checking import check_lists
        from ktask.cli.sums.printing import print_sums
    return check_lists(options) if options.check else print_sums(options)


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, as coreutils do; raises UsageError."""
    if options.tag and options.text:
        raise UsageError("--tag: given with --text; use only one of them")
    if options.check:
        for name in ("tag", "zero", "binary", "text", "recursive"):
            if getattr(options, name):
                raise UsageError(f"--{name}: means nothing with --check; leave it out")
        return
    for name in _CHECK_ONLY:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')}: needs --check; add -c or leave it out")


VERB = Verb(_parser, _run, 1)
