"""The command line: its words, its options and its help texts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from ktask.cli.arguments import Parser, UsageError, count, duration, size

_EPILOG = """commands:
  run FUNCTION [NAME=PATH ...]   run a job and wait for it
  jobs                           list your jobs, ended ones too
  show ID                        everything that is known of a job
  watch ID                       follow a job to its end
  cancel ID                      cancel a job, and wait for its undo
  status                         the daemon, its pools and workers
  mode [auto|always|paused]      who decides how many helpers run
  functions [NAME]               what can be run, and how
  manifest PATH ...              digests of files and trees
  verify MANIFEST                whether they still hold
  hold NAME=PATH ...             hand files over and print their handles

Each command has its own --help. Without --socket, the daemon is looked for at
KTASKD_SOCKET, else in $XDG_RUNTIME_DIR/ktaskd and /run/ktaskd. Where none
answers, run, manifest, verify, hold, functions and `mode MODE` start one of your
own, which ends when it is idle, and name a system daemon that cannot be used.
The others, which only look at what is there, start nothing and exit 3.

--json prints one document in protobuf's JSON form (lowerCamelCase names, 64-bit
integers as strings, default values left out): the job for run, show and cancel,
the call's response for the others. Everything else goes to standard error.

exit status: 0 done, 1 the job failed or the daemon could not take it, 2 bad
input, 3 no daemon, 130 interrupted, 143 terminated, 141 nobody reads the list any more.
"""

_RUN_EPILOG = """Sources are opened with your rights, as the function wants them; a file that
it writes is made if missing. SIZE and START:LENGTH may have K, M, G or T (binary)
behind their numbers. A NID of -1 is any node. Ctrl-C cancels the job, waits for
its undo and exits 130; a second one leaves the undo to the daemon.

A file that is made has the mode of its source less the umask, and is removed
again unless the job succeeds; with --detach, unless it is accepted. "-" is standard
input for a source that is read, and standard output for a target; "./-" is a file.
Both go through a temporary file where they are pipes.

What the job found goes to standard output, one "name: value" a line, of items one
"PATH: values". More than 1000 items are worked on by one job after the other; with
--json they are then the list "jobs" of one object.
"""

_HOLD_EPILOG = """Each file is opened for reading and writing, or only for reading where you may
not write it. For each, a line "NAME HANDLE" is printed; the handles are good for
every process of this user until this one is interrupted, which is its normal
end: SIGINT and SIGTERM exit 0. With --json the handles are one object.
"""


_MANIFEST_EPILOG = """The lines are those of sha256sum and b3sum, which can check them. "-" is standard
input. Below a directory links are not followed, and what is no regular file is left
out, as is the file that the list goes to. A file larger than --block has a digest for
each block, in lines that are comments to sha256sum, and is checked by `ktask verify`
alone, which then names the blocks that are bad.

A file that cannot be read is named, and the others are listed. --output FILE is
replaced when the list is complete, and left as it was where nothing could be listed.
With --json one object has all "files", to be read by programs.

exit status: 0 done, 1 something could not be read, or there was no file.
"""

_VERIFY_EPILOG = """For each file, "NAME: OK" or "NAME: FAILED" is printed, and for each bad block of a
file with digests of blocks "NAME: FAILED bytes FIRST to LAST". The list may be any that
`sha256sum -c` or `b3sum -c` accepts: of --tag, of -z, of BSD, with the line ends of
DOS. Lines that are no such are counted. Where a line does not name its algorithm, it
is found out, or --algorithm says it. With --resume, a run that was interrupted goes on
where it was, and names again what it had found.

exit status: 0 all as it was, 1 something is not, or there was nothing to check.
"""

_MODE_EPILOG = """modes:
  auto     the daemon decides, from power, pressure, heat and limits
  always   all helpers, on battery too
  paused   no helpers: jobs that are waited for go on alone, detached ones wait

Without a word, prints the mode. Only uid 0 and the daemon's own user may set it.
It holds until the daemon ends, or with --for until that time is over; then it
is auto again. A daemon that was started by itself does not end while a mode is
set. TIME is a number with s, m, h or d behind it, as 90s or 1.5h.
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as values; raises UsageError, or SystemExit after --help."""
    # The command's words are parsed by themselves, since argparse cannot mix
    # options and positional words below a subparser.
    top = Parser(
        prog="ktask",
        usage="ktask [--socket DIR_OR_PATH] [--json] COMMAND ...",
        description="Run jobs on CPUs that nobody else wants.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_common(top, None)
    top.add_argument("--version", action="store_true", help="print the version")
    top.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    top.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = top.parse_args(argv)
    if options.version:
        options.command = "version"
        return options
    if options.command not in _PARSERS:
        got = f'got "{options.command}"' if options.command else "missing"
        raise UsageError(f"command: {got}, wanted {', '.join(_PARSERS)}")
    options = _PARSERS[options.command]().parse_intermixed_args(options.rest, options)
    if options.socket == "":
        raise UsageError("--socket: got an empty path, wanted a directory or a socket")
    return options


def _add_common(parser: Parser, default: object) -> None:
    parser.add_argument(
        "--socket",
        metavar="DIR_OR_PATH",
        default=default,
        help="the daemon's directory or gRPC socket",
    )
    json_default = False if default is None else default
    parser.add_argument("--json", action="store_true", default=json_default, help="print one JSON document")


def _parser(command: str, description: str, epilog: str = "") -> Parser:
    parser = Parser(
        prog=f"ktask {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # Both places are good; what was said before the command holds unless said again.
    _add_common(parser, argparse.SUPPRESS)
    return parser


def _run_parser() -> Parser:
    parser = _parser("run", "Run a job and wait for it.", _RUN_EPILOG)
    add = parser.add_argument
    add("function", metavar="FUNCTION", help="as in `ktask functions`")
    add("sources", nargs="*", metavar="NAME=PATH", help="a source by its role")
    add(
        "--memory",
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="a source of memory made for this run",
    )
    add(
        "--items", nargs="+", action="extend", default=None, metavar="PATH", help="sources counted one by one"
    )
    add(
        "--arg", nargs="+", action="append", default=[], metavar="KEY=VALUE", help="arguments of the function"
    )
    add(
        "--range",
        nargs="+",
        action="append",
        default=[],
        metavar="START:LENGTH[@NID]",
        help="pieces to process, in positions",
    )
    add("--min-chunk", type=size, default=0, metavar="SIZE", help="fewest positions worth a worker")
    add("--max-threads", type=count, default=0, metavar="N", help="most workers at one time (default: 4)")
    add("--no-undo", action="store_true", help="leave completed chunks as they are when the job fails")
    _add_label(parser, "a name and a value of your own, for `ktask jobs`; at most 16")
    add("--detach", action="store_true", help="print the job's id and leave it running")
    add(
        "--progress", choices=("auto", "off"), default="auto", help="a bar where standard error is a terminal"
    )
    return parser


def _jobs_parser() -> Parser:
    parser = _parser("jobs", "List your jobs, newest first, ended ones too while they are kept.")
    _add_label(parser, "only jobs that have this label; given more than once, all of them")
    return parser


def _add_label(parser: Parser, words: str) -> None:
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help=words)


def _job_parser(command: str, description: str) -> Parser:
    parser = _parser(command, description)
    parser.add_argument("id", metavar="ID", help="the job's id")
    return parser


def _functions_parser() -> Parser:
    parser = _parser("functions", "What can be run; with NAME, everything that one function declares.")
    parser.add_argument("name", nargs="?", default="", metavar="NAME")
    return parser


def _mode_parser() -> Parser:
    parser = _parser("mode", "Print or set who decides how many helpers run.", _MODE_EPILOG)
    parser.add_argument("mode", nargs="?", choices=("auto", "always", "paused"))
    parser.add_argument("--for", dest="seconds", type=duration, metavar="TIME", help="auto again after TIME")
    return parser


def _manifest_parser() -> Parser:
    parser = _parser(
        "manifest", "Print a digest of each file, and of all files below directories.", _MANIFEST_EPILOG
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="a file or a directory")
    add("--algorithm", choices=("sha256", "blake3"), default="sha256", help="the digest (default: sha256)")
    add("--block", type=size, default=0, metavar="SIZE", help="digests of blocks for files larger than this")
    add("--output", metavar="FILE", help="write it to a file")
    return parser


def _verify_parser() -> Parser:
    parser = _parser("verify", "Say which files are not as a manifest has them.", _VERIFY_EPILOG)
    add = parser.add_argument
    add("manifest", metavar="MANIFEST", help='what `ktask manifest` printed; "-" is standard input')
    add("--algorithm", choices=("sha256", "blake3"), help="of lines that do not name it (default: found out)")
    add("--quiet", action="store_true", help="name only what is not as it was")
    add("--resume", metavar="FILE", help="note there how far it is, and go on from there")
    return parser


def _hold_parser() -> Parser:
    parser = _parser("hold", "Hand files over and print their handles, until interrupted.", _HOLD_EPILOG)
    parser.add_argument("sources", nargs="+", metavar="NAME=PATH", help="a file, and a name for it")
    return parser


_PARSERS: dict[str, Callable[[], Parser]] = {
    "run": _run_parser,
    "jobs": _jobs_parser,
    "show": lambda: _job_parser("show", "Everything that is known of a job."),
    "watch": lambda: _job_parser("watch", "Follow a job to its end; exits 1 if it failed."),
    "cancel": lambda: _job_parser("cancel", "Cancel a job, and wait for its undo."),
    "status": lambda: _parser("status", "The daemon, its pools and workers, and what they lack."),
    "mode": _mode_parser,
    "functions": _functions_parser,
    "manifest": _manifest_parser,
    "verify": _verify_parser,
    "hold": _hold_parser,
}
