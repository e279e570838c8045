"""The words of `ktask copy`, like those of `cp`."""

from __future__ import annotations

import argparse

from ktask.cli.arguments import Parser, parser_of
from ktask.cli.verbs import Verb

_EPILOG = """Copies as cp does: holes stay holes, storage is shared where the file system can, new files
have the mode of their source less the umask. Files from 1 GiB on are copied by the daemon's
workers. A new file is private until it is complete, and is removed if it cannot be
completed. A source that changes meanwhile is reported.

examples:
  ktask copy disk.img backup/
  ktask copy -a /srv/data /mnt/copy
  ktask copy --verify big.db /mnt/usb/

exit status: 0 done, 1 something could not be copied, or an error.
"""


def _parser() -> Parser:
    parser = parser_of("copy", "Copy files and trees.", _EPILOG, json=False)
    add, when = parser.add_argument, ("auto", "always", "never")
    add("files", nargs="*", metavar="FILE", help="sources, and last the target: a file or a directory")
    add("-r", "-R", "--recursive", action="store_true", help="copy directories with all that is in them")
    add("-p", "--preserve", action="store_true", help="keep mode, owner and times")
    add("-a", "--archive", action="store_true", help="as -r -p, and keep hard links and attributes")
    add(
        "-L",
        "--dereference",
        dest="follow",
        action="store_const",
        const="all",
        help="copy what links lead to",
    )
    add(
        "-P",
        "--no-dereference",
        dest="follow",
        action="store_const",
        const="none",
        help="copy links as links",
    )
    add("-f", "--force", action="store_true", help="replace a target that cannot be written")
    add("-n", "--no-clobber", action="store_true", help="leave files that are there as they are")
    add("-t", "--target-directory", dest="directory", metavar="DIR", help="copy all files into DIR")
    add(
        "-T", "--no-target-directory", dest="no_directory", action="store_true", help="never copy into TARGET"
    )
    add("-v", "--verbose", action="store_true", help="print each copy")
    add("-q", "--quiet", action="store_true", help="draw no progress bar")
    add("--reflink", nargs="?", const="always", default="auto", choices=when, help="share storage")
    add("--sparse", default="auto", choices=when, help="holes: as in the source, for all zeros, or none")
    add("--verify", action="store_true", help="compare each copy with its source")
    return parser


def _run(options: argparse.Namespace) -> int:
    # Imported only now: a help text needs no gRPC.
    from ktask.cli.lazily import uncollected

    with uncollected():
        from ktask.cli.copying.trees import copy
    return copy(options)


VERB = Verb(_parser, _run, 1)
