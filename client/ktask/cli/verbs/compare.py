"""The words of `ktask compare`, like those of `cmp`."""

from __future__ import annotations

import argparse

from ktask.cli.arguments import Parser, parser_of
from ktask.cli.verbs import Verb

_EPILOG = """Prints where two files differ first, as cmp does: "A B differ: byte 7, line 2". If one is a
beginning of the other, that is reported on standard error. Parts that are holes in both files
are passed over.

examples:
  ktask compare disk.img copy.img
  ktask compare -q a b && echo equal
  zcat backup.gz | ktask compare big.db -

exit status: 0 equal, 1 they differ, 2 a file cannot be read, or an error.
"""


def _parser() -> Parser:
    parser = parser_of("compare", "Compare two files byte by byte.", _EPILOG, json=False)
    add = parser.add_argument
    add("first", metavar="FILE1", help='a file; "-" is standard input')
    add("second", metavar="FILE2", nargs="?", default="-", help='a file; by default "-", standard input')
    add("-s", "-q", "--silent", "--quiet", dest="silent", action="store_true", help="print nothing")
    return parser


def _run(options: argparse.Namespace) -> int:
    # Imported only now: a help text needs no gRPC.
    from ktask.cli.lazily import uncollected

    with uncollected():
        from ktask.cli.compare import compare
    return compare(options)


VERB = Verb(_parser, _run, 2)
