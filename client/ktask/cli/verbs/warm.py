"""The words of `ktask warm`, like `vmtouch -t` and `vmtouch -e`."""

from __future__ import annotations

import argparse

from ktask.cli.arguments import Parser, parser_of
from ktask.cli.verbs import Verb

_EPILOG = """Prints a line for each file: its size, and how much of it was in memory before and is now, if
the kernel tells (Linux 6.5). At most three quarters of the available memory are filled.

examples:
  ktask warm model.bin            before a program reads it
  ktask warm -r /srv/www          all files below a directory
  ktask warm -e backup.tar        drop a file that nobody will read soon

exit status: 0 done, 1 a file was not read, or an error.
"""


def _parser() -> Parser:
    parser = parser_of("warm", "Read files into the page cache, or drop them from it.", _EPILOG, json=False)
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="a file")
    add("-e", "--evict", action="store_true", help="drop files from the page cache instead")
    add("-r", "--recursive", action="store_true", help="all files below directories, without links")
    add("-q", "--quiet", action="store_true", help="print nothing")
    return parser


def _run(options: argparse.Namespace) -> int:
    # Imported only now: a help text needs no gRPC.
    from ktask.cli.lazily import uncollected

    with uncollected():
        from ktask.cli.warm import warm
    return warm(options)


VERB = Verb(_parser, _run, 1)
