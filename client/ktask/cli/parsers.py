"""The command line: its words, its options and its help texts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from ktask.cli.arguments import Parser, UsageError, add_common, count, duration, parser_of, size
from ktask.cli.verbs import NAMES, Verb, verb

_EPILOG = """commands:
  run FUNCTION [NAME=PATH ...]   run a job and wait for it
  jobs                           list your jobs, including ended ones
  show ID                        all details of a job ("last" is the newest)
  explain ID                     what a job waited for, and what limited it
  watch ID                       follow a job to its end
  cancel ID                      cancel a job, and wait for its undo
  status                         the daemon, its pools and workers
  top                            the daemon, its CPUs and its jobs as they change
  doctor                         what should be mended, and how
  mode [auto|always|paused]      who decides how many helpers run
  functions [NAME]               list functions, or describe one
  manifest PATH ...              print digests of files and trees
  verify MANIFEST                check files against their digests
  hold NAME=PATH ...             hand files over and print their handles

verbs, with the options, output and exit statuses of a program that you know:
  sum [-c] FILE ...              print or check checksums, as sha256sum does
  compress [FILE ...]            compress files or a stream, as zstd and gzip do
  decompress [FILE ...]          decompress files or a stream
  search PATTERN [FILE ...]      print lines that match, as grep -E does
  compare FILE1 [FILE2]          find the first difference, as cmp does
  copy [-r] FILE ... TARGET      copy files and trees, as cp does
  fill [-s SIZE] FILE ...        fill files with a byte, as dd does from /dev/zero
  warm [-e] FILE ...             read files into the page cache, as vmtouch does

Each command has its own --help. Without --socket, the daemon is the one that
KTASKD_SOCKET names, or else one in $XDG_RUNTIME_DIR/ktaskd or /run/ktaskd. If none
answers, run, manifest, verify, hold, functions, `mode MODE` and the verbs start a
daemon of your own, which ends when it is idle; they also report a system daemon that
cannot be used. The other commands start nothing and exit 3.

--json prints one document in protobuf's JSON form (lowerCamelCase names, 64-bit
integers as strings, default values left out): the job for run, show and cancel,
the call's response for the others. Everything else goes to standard error. The verbs
have no --json.

exit status: 0 done, 1 the job failed or the daemon refused it for now, 2 bad input,
3 no daemon, 130 interrupted, 143 terminated, 141 the reader of the output is gone.
"""

_RUN_EPILOG = """Sources are opened with your rights and the access that the function needs; a missing
file is created if the function writes it. In SIZE and START:LENGTH the numbers may be
followed by K, M, G or T (binary). A NID of -1 means any node. Ctrl-C cancels the job,
waits for its undo and exits 130; a second Ctrl-C leaves the undo to the daemon.

A created file has the mode of its source less the umask. It is removed again unless
the job succeeds, or with --detach unless the job is accepted. "-" is standard input
for a source that is read, and standard output for a target; "./-" is a file. If they
are pipes, both go through a temporary file.

The result goes to standard output, one "name: value" a line; with items one
"PATH: values" a line. More than 1000 items take several jobs, one after the other;
with --json these are then the list "jobs" of one object.
"""

_JOBS_EPILOG = """With --watch a terminal shows a table that is drawn again and again, with all jobs that have
not ended and the newest others. Other output gets a line whenever a job comes or changes its
state, or with --json the job as one line. Ctrl-C is the normal end, with exit status 0.

examples:
  ktask jobs --user $USER --since 15m
  ktask jobs --watch --state running
  ktask jobs --watch | grep FAILED
"""

_DOCTOR_EPILOG = """Each line is "ok", "note" (works less well than it could) or "mend" (does not work and
should); "->" leads to the command or the change that mends it. Nothing is started
and nothing is changed.

exit status: 0 nothing must be mended, 1 something must, 2 bad input.
"""

_HOLD_EPILOG = """Each file is opened for reading and writing, or only for reading if you may not
write it. For each file a line "NAME HANDLE" is printed. All processes of this user
can use the handles until this command is interrupted, which is its normal end:
after SIGINT and SIGTERM it exits 0. With --json the handles are one object.
"""


_MANIFEST_EPILOG = """The lines have the format of sha256sum and b3sum, which can check them. "-" is standard
input. Below a directory, links are not followed; files that are not regular are left
out, and so is the file that the list is written to. A file larger than --block gets a
digest for each block, in lines that are comments to sha256sum. Only `ktask verify`
checks such a file, and names its bad blocks.

A file that cannot be read is reported, and the others are listed. --output FILE is
replaced when the list is complete, and stays as it was if no file could be listed.
With --json one object has all "files", for programs to read.

exit status: 0 done, 1 a file could not be read, or there was no file.
"""

_VERIFY_EPILOG = """For each file "NAME: OK" or "NAME: FAILED" is printed, and for each bad block of a
file with digests of blocks "NAME: FAILED bytes FIRST to LAST". The list may have any
format that `sha256sum -c` or `b3sum -c` accepts: --tag, -z, BSD, DOS line ends.
Lines in no such format are counted. The algorithm of lines that do not name it is
detected, or taken from --algorithm. With --resume, an interrupted run continues where
it was, and reports again what it had found.

exit status: 0 all files match, 1 a file does not match, or there was nothing to check.
"""

_MODE_EPILOG = """modes:
  auto     the daemon decides, from power, pressure, heat and limits
  always   all helpers, also on battery
  paused   no helpers: jobs that somebody waits for go on alone, detached ones wait

Without a mode, the command prints the current one. Only uid 0 and the daemon's own
user may set it. A mode lasts until the daemon ends, or with --for until that time is
over; then it is auto again. An embedded daemon does not end while a mode is set.
TIME is a number followed by s, m, h or d, such as 90s or 1.5h.
"""


def top_parser() -> Parser:
    """The parser of the options before the command; its words are "command" and "rest"."""
    # The words after the command are parsed separately, since argparse cannot mix
    # options and positional words below a subparser.
    top = Parser(
        prog="ktask",
        usage="ktask [--socket DIR_OR_PATH] [--json] COMMAND ...",
        description="Run jobs on CPUs that nobody else wants.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_common(top, None)
    top.add_argument("--version", action="store_true", help="print the version")
    top.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    top.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return top


def commands() -> dict[str, Parser]:
    """The parser of each command and each verb, by name."""
    verbs = {name: verb(name).parser() for name in NAMES}
    return {name: make() for name, make in _PARSERS.items()} | verbs


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as values; raises UsageError, or SystemExit after --help."""
    top = top_parser()
    # argparse would take "--" after the command as its own; no word of a command line contains a zero byte.
    options = top.parse_args(["\0--" if i and word == "--" else word for i, word in enumerate(argv)])
    options.rest = [word.removeprefix("\0") for word in options.rest]
    if options.version:
        options.command = "version"
        return options
    if not options.command:
        top.print_help()
        raise SystemExit(0)
    if options.command in NAMES:
        return _parse_verb(verb(options.command), options)
    if options.command not in _PARSERS:
        raise UsageError(_unknown(options.command))
    options = _PARSERS[options.command]().parse_words(options.rest, options)
    _check_common(options)
    return options


def _parse_verb(found: Verb, options: argparse.Namespace) -> argparse.Namespace:
    """The words of a verb as values; a UsageError has the verb's exit status."""
    options.verb = found
    try:
        if options.json:
            raise UsageError(f"--json: `ktask {options.command}` has no JSON output; leave it out")
        options = found.parser().parse_words(options.rest, options)
        _check_common(options)
    except UsageError as error:
        error.status = found.trouble
        raise
    return options


def _check_common(options: argparse.Namespace) -> None:
    if options.socket == "":
        raise UsageError("--socket: got an empty path, wanted a directory or a socket")


def _unknown(word: str) -> str:
    """The complaint about a command that there is not, with one that is spelled like it."""
    from difflib import get_close_matches

    names = [*NAMES, *_PARSERS]
    close = get_close_matches(word, names, 1)
    hint = f'did you mean "{close[0]}"?' if close else f"wanted {', '.join(names)}"
    return f'command: got "{word}", {hint}'


def _run_parser() -> Parser:
    parser = parser_of("run", "Run a job and wait for it.", _RUN_EPILOG)
    add = parser.add_argument
    add("function", metavar="FUNCTION", help="a name from `ktask functions`")
    add("sources", nargs="*", metavar="NAME=PATH", help="a source, named by its role")
    add(
        "--memory",
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="a source: memory allocated for this run",
    )
    add(
        "--items",
        nargs="+",
        action="extend",
        default=None,
        metavar="PATH",
        help="sources that are processed one by one",
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
    add(
        "--max-threads", type=count, default=0, metavar="N", help="most workers at the same time (default: 4)"
    )
    add("--no-undo", action="store_true", help="leave completed chunks as they are when the job fails")
    _add_label(parser, "a name and a value of your own, for `ktask jobs`; at most 16")
    add("--detach", action="store_true", help="print the job's id and leave it running")
    add(
        "--progress",
        choices=("auto", "off"),
        default="auto",
        help="a progress bar, if standard error is a terminal",
    )
    return parser


_STATES = (
    *("queued", "running", "combining", "draining", "undoing"),
    *("succeeded", "failed", "cancelled", "dirty"),
)


def _jobs_parser() -> Parser:
    parser = parser_of(
        "jobs", "List your jobs, newest first, including ended ones that are still kept.", _JOBS_EPILOG
    )
    _add_label(parser, "only jobs with this label; repeat it to require several labels")
    add = parser.add_argument
    add("--user", default="", metavar="USER", help="only jobs of this user, a name or a uid")
    add(
        "--state",
        action="append",
        default=[],
        type=str.lower,
        choices=_STATES,
        metavar="STATE",
        help=f"only jobs in this state: {', '.join(_STATES)}; repeat it for several",
    )
    add("--function", default="", metavar="NAME", help="only jobs of this function")
    add("-w", "--watch", action="store_true", help="follow them until interrupted")
    add(
        "--interval", type=duration, metavar="TIME", help="with --watch: time between two looks (default: 1s)"
    )
    add("--since", type=duration, metavar="TIME", help="only jobs of the last TIME, such as 15m")
    return parser


def _add_label(parser: Parser, words: str) -> None:
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help=words)


def _job_parser(command: str, description: str) -> Parser:
    parser = parser_of(command, description)
    parser.add_argument("id", metavar="ID", help='the job\'s id, its beginning, or "last", the newest')
    return parser


def _functions_parser() -> Parser:
    parser = parser_of("functions", "List the functions; with NAME, describe one in full.")
    parser.add_argument("name", nargs="?", default="", metavar="NAME")
    return parser


def _status_parser() -> Parser:
    parser = parser_of("status", "Print the state of the daemon on one screen.")
    parser.add_argument(
        *("-v", "--verbose"), action="store_true", help="all workers, what they lack, limits and counters"
    )
    return parser


def _mode_parser() -> Parser:
    parser = parser_of("mode", "Print or set who decides how many helpers run.", _MODE_EPILOG)
    parser.add_argument("mode", nargs="?", choices=("auto", "always", "paused"))
    parser.add_argument(
        "--for", dest="seconds", type=duration, metavar="TIME", help="return to auto after TIME"
    )
    return parser


def _manifest_parser() -> Parser:
    parser = parser_of(
        "manifest", "Print a digest of each file, and of each file below directories.", _MANIFEST_EPILOG
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="a file or a directory")
    add("--algorithm", choices=("sha256", "blake3"), default="sha256", help="the digest (default: sha256)")
    add("--block", type=size, default=0, metavar="SIZE", help="digests of blocks for files larger than this")
    add("--output", metavar="FILE", help="write the list to FILE")
    return parser


def _verify_parser() -> Parser:
    parser = parser_of("verify", "Check files against the digests of a manifest.", _VERIFY_EPILOG)
    add = parser.add_argument
    add("manifest", metavar="MANIFEST", help='what `ktask manifest` printed; "-" is standard input')
    add(
        "--algorithm",
        choices=("sha256", "blake3"),
        help="algorithm of lines that do not name it (default: detected)",
    )
    add("--quiet", action="store_true", help="report only files that do not match")
    add("--resume", metavar="FILE", help="save the progress in FILE, and continue from it")
    return parser


def _hold_parser() -> Parser:
    parser = parser_of("hold", "Hand files over and print their handles, until interrupted.", _HOLD_EPILOG)
    parser.add_argument("sources", nargs="+", metavar="NAME=PATH", help="a file, and a name for it")
    return parser


_PARSERS: dict[str, Callable[[], Parser]] = {
    "run": _run_parser,
    "jobs": _jobs_parser,
    "show": lambda: _job_parser("show", "Print all details of a job."),
    "explain": lambda: _job_parser("explain", "Print what happened to a job, and what limited it."),
    "watch": lambda: _job_parser("watch", "Follow a job to its end; exit 1 if it failed."),
    "cancel": lambda: _job_parser("cancel", "Cancel a job, and wait for its undo."),
    "status": _status_parser,
    "doctor": lambda: parser_of(
        "doctor", "Examine client, daemon and machine, and print what mends each finding.", _DOCTOR_EPILOG
    ),
    "mode": _mode_parser,
    "functions": _functions_parser,
    "manifest": _manifest_parser,
    "verify": _verify_parser,
    "hold": _hold_parser,
}
