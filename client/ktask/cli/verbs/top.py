"""The words of `ktask top`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from ktask.cli.arguments import Parser, UsageError, duration, parser_of
from ktask.cli.verbs import Verb

_EPILOG = """Shows the nodes and CPUs with the kind of work that is on each, pressure, power and heat, the
helpers that may run with every reason for fewer, and your jobs (uid 0 sees those of all users). It starts
no daemon. Keys: h shows all of them, q quits. Colours are left out if NO_COLOR is set.

examples:
  ktask top
  ktask top -i 0.5                look twice a second
  NO_COLOR=1 ktask top
  ktask --socket /run/ktaskd top  the system's daemon

exit status: 0 quit by q or Ctrl-C, 1 the daemon refuses, 2 bad input or no terminal to draw on, 3 no
daemon, 143 terminated.
"""


def _parser() -> Parser:
    parser = parser_of("top", "Show the daemon, its CPUs and its jobs as they change.", _EPILOG, json=False)
    parser.add_argument(
        *("-i", "--interval"),
        type=duration,
        default=1.0,
        metavar="TIME",
        help="time between two looks, at least 0.1s (default: 1s)",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    _check_terminal()
    # Imported only now: a help text needs no gRPC.
    from ktask.cli.exits import NO_DAEMON, complain, status_of
    from ktask.cli.lazily import uncollected
    from ktask.errors import DaemonNotFound, KtaskError

    with uncollected():
        run = _load()
    try:
        return run(options)
    except DaemonNotFound as error:
        return complain(f"top: {error}", NO_DAEMON)
    except KtaskError as error:
        return complain(f"top: {error}", status_of(error))


def _load() -> Callable[[argparse.Namespace], int]:
    try:
        from ktask.cli.top.application import top
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise UsageError(
            'needs the Python package "rich": `apt install python3-rich` or `pip install "ktaskd[top]"`;'
            " `ktask status` works without it"
        ) from None
    return top


def _check_terminal() -> None:
    """Raise UsageError if there is no terminal to draw on."""
    for name, stream in (("standard output", sys.stdout), ("standard input", sys.stdin)):
        if stream is None or not stream.isatty():
            raise UsageError(f"{name}: is not a terminal; use `ktask status` or `ktask jobs --watch`")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError("TERM: the terminal cannot be drawn on; use `ktask status` or `ktask jobs --watch`")


VERB = Verb(_parser, _run, 2)
