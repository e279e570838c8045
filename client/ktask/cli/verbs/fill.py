"""The words of `ktask fill`, which does what people use dd from /dev/zero for."""

from __future__ import annotations

import argparse

from ktask.cli.arguments import Parser, UsageError, parser_of, size
from ktask.cli.verbs import Verb

_EPILOG = """Makes each FILE if it is missing, extends it if it is shorter, and allocates storage. Bytes
outside of the range stay as they are.

examples:
  ktask fill -s 10G disk.img            zeros, with storage
  ktask fill -s 1M -b 0xff flash.bin
  ktask fill -o 4K -s 4K data           the second page of a file
  ktask fill data                       all of a file that exists

exit status: 0 done, 1 a file could not be filled, or an error.
"""


def _parser() -> Parser:
    parser = parser_of("fill", "Fill files with one byte.", _EPILOG, json=False)
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE")
    add("-s", "--size", type=size, metavar="SIZE", help="how many bytes (default: up to the end of the file)")
    add("-o", "--offset", type=size, default=0, metavar="SIZE", help="the first byte (default: 0)")
    add("-b", "--byte", type=_byte, default=0, metavar="VALUE", help="the byte, 0 to 255 (default: 0)")
    add("-q", "--quiet", action="store_true", help="draw no progress bar")
    return parser


def _byte(word: str) -> int:
    try:
        value = int(word, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 255:
        raise UsageError(f'byte: got "{word}", wanted 0 to 255')
    return value


def _run(options: argparse.Namespace) -> int:
    # Imported only now: a help text needs no gRPC.
    from ktask.cli.lazily import uncollected

    with uncollected():
        from ktask.cli.filling import fill
    return fill(options)


VERB = Verb(_parser, _run, 1)
