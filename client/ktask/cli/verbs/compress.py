"""The words of `ktask compress` and `ktask decompress`, like those of `zstd` and `gzip`."""

from __future__ import annotations

import argparse

from ktask.cli.arguments import Parser, UsageError, count, parser_of
from ktask.cli.verbs import Verb

_COMPRESS = """Makes FILE.zst, or FILE.gz with --format gzip, with the mode, the owner if that is allowed, and
the time of FILE. Without FILE, and for "-", standard input is compressed to standard output
as it comes, in bounded memory. zstd keeps FILE, gzip removes it, as the programs do.
Any zstd or gzip can decompress the output; it has independent frames of 1 MiB.

examples:
  ktask compress big.log                  makes big.log.zst
  ktask compress -9 --format gzip a b     makes a.gz and b.gz, and removes a and b
  tar c . | ktask compress > x.tar.zst    a stream
  ktask compress -c big.log | ssh backup 'cat > big.log.zst'

exit status: 0 done, 1 a file was not compressed, or an error.
"""

_DECOMPRESS = """Makes FILE without .zst or .gz (.tzst and .tgz become .tar), with the mode, the owner if that
is allowed, and the time of FILE. Without FILE, and for "-", standard input is decompressed
to standard output: zstd frames that state their size as they come, in bounded memory; other
streams go through a temporary file. zstd keeps FILE, gzip removes it, as the programs do.

examples:
  ktask decompress big.log.zst            makes big.log
  ktask decompress -o log x.zst           makes log
  ktask decompress -c x.tar.zst | tar x
  ktask decompress < x.tar.gz | tar x

exit status: 0 done, 1 a file was not decompressed, or an error, 2 garbage was ignored.
"""

LEVELS = range(1, 20)


def parser_for(verb: str, description: str, epilog: str) -> Parser:
    """The options that both verbs have."""
    parser = parser_of(verb, description, epilog, json=False)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help='a file; "-" is standard input')
    add("-k", "--keep", action="store_true", help="keep FILE")
    add("--rm", action="store_true", help="remove FILE when its new file is on the disk")
    add(
        "-f",
        "--force",
        action="store_true",
        help="replace files that exist, follow links, and write to a terminal",
    )
    add("-c", "--stdout", action="store_true", help="write to standard output, and keep FILE")
    add("-o", dest="output", metavar="OUT", help='name of the new file; "-" is standard output')
    add("-q", "--quiet", action="store_true", help="draw no progress on a terminal")
    add("--format", choices=("zstd", "gzip"), help="the format")
    add("-T", "--threads", type=count, default=0, metavar="N", help="use at most N workers; 0 = all")
    return parser


def _add_long(parser: Parser, text: str) -> None:
    """Add --long[=N]: a word after it is a file, which argparse's optional values would take."""
    add = parser.add_argument
    add("--long", action="store_const", const=27, help=f"--long[=N]: {text}")
    for number in range(10, 32):
        add(f"--long={number}", dest="long", action="store_const", const=number, help=argparse.SUPPRESS)


def check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other; raises UsageError."""
    if options.keep and options.rm:
        raise UsageError("--rm: given with --keep; use only one of them")
    if options.output is not None and options.stdout:
        raise UsageError("-o: given with -c; use only one of them")
    if options.output is not None and len(options.files) > 1:
        raise UsageError(f"-o: got {len(options.files)} files for one name, wanted one file")


def _parser() -> Parser:
    parser = parser_for("compress", "Compress files or a stream in parallel.", _COMPRESS)
    for level in LEVELS:
        text = "level: fast and large to slow and small (up to -19 for zstd, -9 for gzip)"
        parser.add_argument(
            *(f"-{level}",),
            dest="level",
            action="store_const",
            const=level,
            help=text if level == 1 else argparse.SUPPRESS,
        )
    text = "frames of 2^N bytes, but of 64 MiB at most, so that repeats further apart are found"
    _add_long(parser, text)
    parser.set_defaults(level=0)
    return parser


def _run(options: argparse.Namespace) -> int:
    check(options)
    if options.format == "gzip" and options.level > 9:
        raise UsageError(f"-{options.level}: gzip has levels up to 9; use -9 or --format zstd")
    # Imported only now: a help text needs no gRPC.
    from ktask.cli.lazily import uncollected

    with uncollected():
        from ktask.cli.archives.archiving import compress
    return compress(options)


def _decompress_parser() -> Parser:
    parser = parser_for("decompress", "Decompress files or a stream in parallel.", _DECOMPRESS)
    text = "accept zstd frames that need a window of 2^N bytes (10 to 31; by default 27)"
    _add_long(parser, text)
    return parser


def _run_decompress(options: argparse.Namespace) -> int:
    check(options)
    from ktask.cli.lazily import uncollected

    with uncollected():
        from ktask.cli.archives.archiving import decompress
    return decompress(options)


VERB = Verb(_parser, _run, 1)
DECOMPRESS = Verb(_decompress_parser, _run_decompress, 1)
