"""The `ktask` command: runs one command line, and turns what it raises into an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ktask.cli.arguments import UsageError
from ktask.cli.exits import (
    BAD_INPUT,
    DONE,
    NO_DAEMON,
    READER_GONE,
    complain,
    drop_output,
    end_cleanly,
    end_now,
    status_of,
    status_of_interrupt,
)
from ktask.cli.lazily import load_lazily, uncollected
from ktask.cli.parsers import parse
from ktask.cli.verbs import NAMES, Verb
from ktask.errors import DaemonNotFound, KtaskError


def command() -> NoReturn:
    """Run the process's command line, and end the process with its exit status."""
    load_lazily()
    end_now(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default the process's; return the exit status."""
    _write_anything()
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        drop_output()
        return READER_GONE
    except OSError as error:  # the buffered output could not be written
        drop_output()
        return complain(f"standard output: {error.strerror}", BAD_INPUT)


def _run(argv: Sequence[str]) -> int:
    try:
        options = parse(argv)
        if options.command in NAMES:
            return _run_verb(options)
        with uncollected():
            command = _command(options.command)
        return command(options)
    except SystemExit as end:  # argparse, after --help
        return int(end.code or DONE)
    except KeyboardInterrupt as interrupt:
        words = "; ".join(["interrupted", *getattr(interrupt, "__notes__", [])])
        return complain(words, status_of_interrupt(interrupt))
    except DaemonNotFound as error:
        return complain(str(error), NO_DAEMON)
    except KtaskError as error:
        return complain(str(error), status_of(error))
    except UsageError as error:
        return complain(str(error), error.status)
    except BrokenPipeError:
        raise
    except OSError as error:
        return complain(_describe(error), BAD_INPUT)


def _run_verb(options: argparse.Namespace) -> int:
    """Run a verb; errors have its exit status, as of the program that people know."""
    end_cleanly()
    verb: Verb = options.verb
    try:
        return verb.run(options)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain_of(options, _describe(error))
    except (KtaskError, UsageError) as error:
        return _complain_of(options, str(error))


def _complain_of(options: argparse.Namespace, message: str) -> int:
    return complain(f"{options.command}: {message}", options.verb.trouble)


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """The function of a command, imported only now: --help, --version and mistakes need no gRPC."""
    if name in ("run", "manifest", "verify"):
        end_cleanly()
    if name == "run":
        from ktask.cli.run import run

        return run
    if name == "manifest":
        from ktask.cli.manifest import manifest

        return manifest
    if name == "verify":
        from ktask.cli.verify import verify

        return verify
    if name == "doctor":
        from ktask.cli.doctor import doctor

        return doctor
    if name == "version":
        from ktask.cli.version import version

        return version
    from ktask.cli import commands

    return {
        "jobs": commands.jobs,
        "show": commands.show,
        "explain": commands.explain,
        "watch": commands.watch,
        "cancel": commands.cancel,
        "status": commands.status,
        "mode": commands.mode,
        "functions": commands.functions,
        "hold": commands.hold,
    }[name]


def _describe(error: OSError) -> str:
    if error.filename is None:
        return error.strerror or str(error)
    return f'file "{os.fsdecode(error.filename)}": {error.strerror}'


def _write_anything() -> None:
    """Print file names that are no text escaped, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    command()
