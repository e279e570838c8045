"""The command `ktaskd`: reads its command line. The work is in `command`, loaded when it is needed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktaskd import __version__

READER_GONE = 141
"""The status with which a shell reports a program that SIGPIPE has ended."""

DEFAULT_CONFIG = Path("/etc/ktaskd/ktaskd.toml")


class Parser(argparse.ArgumentParser):
    """Raises errors of printing help, which argparse ignores since Python 3.11.5."""

    def _print_message(self, message: str, file: Any = None) -> None:
        # If standard output is not buffered, the error occurs here and not when it is flushed.
        if file is not None and file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="ktaskd", description="Runs parallel work for every program, on CPUs that nobody else wants."
    )
    parser.add_argument("--runtime-dir", metavar="DIR", help="directory of the sockets (default: see below)")
    parser.add_argument(
        "--config", type=Path, help=f"configuration file (default: {DEFAULT_CONFIG} if there)"
    )
    parser.add_argument("--selftest", action="store_true", help="offer the selftest.* functions")
    parser.add_argument(
        "--check-config", action="store_true", help="print the effective configuration and end"
    )
    parser.add_argument(
        "--check-host", action="store_true", help="measure whether helpers give way on this machine, and end"
    )
    parser.add_argument(
        "--pool-hosts",
        action="store_true",
        help="start the helpers for a daemon whose workers.helpers_socket is the socket passed in LISTEN_FDS",
    )
    parser.add_argument(
        "--idle-exit", type=float, metavar="SECONDS", help="end after this time with nothing to do"
    )
    parser.add_argument(
        "--host-root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="read DIR/proc and DIR/sys to decide how many helpers may run (default: /)",
    )
    parser.add_argument(
        "--helpers-socket",
        metavar="PATH",
        help="socket of `ktaskd --pool-hosts`; replaces workers.helpers_socket",
    )
    parser.add_argument(
        "--own-user",
        action="store_true",
        help="serve only the user that started this, also if that is root: the same as "
        'workers.user = "" and sockets.mode = "0600", unless the file named by --config sets another mode',
    )
    parser.add_argument("--version", action="version", version=f"ktaskd {__version__}")
    parser.epilog = (
        "The runtime directory is /run/ktaskd for root, otherwise $XDG_RUNTIME_DIR/ktaskd, or "
        "/tmp/ktaskd-UID if XDG_RUNTIME_DIR is not a directory of the user's own."
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; return 0 = ended well, 1 = could not start, 2 = wrong usage or configuration.

    With --check-host, 0 = helpers give way on this machine, 1 = they do not. With --check-config, 2
    also means that this machine lacks something that the file names. 141 = the output's reader has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # paths need not be text
    try:
        status = _main(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)  # Python would complain at its end
        return READER_GONE


def _main(argv: Sequence[str] | None) -> int:
    try:
        options = make_parser().parse_args(argv)
    except SystemExit as end:  # argparse has printed the help, or what is wrong
        return int(end.code or 0)
    # Only now, since --help, --version and mistakes need no daemon.
    from ktaskd.daemon.command import act

    return act(options, DEFAULT_CONFIG)
