"""Prints to standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ktask.cli.escaping import printable
from ktask.cli.exits import drop_output, print_error

if TYPE_CHECKING:
    from google.protobuf.message import Message


def print_out(text: str) -> None:
    """Print text, if there is any; a reader that has closed the pipe is no error.

    The reader may stop early, as `head` does. The command has done its work, and its
    exit status still reports the outcome.
    """
    if not text:
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:
        drop_output()


def write_out(data: bytes) -> None:
    """Write bytes to standard output at once; nothing if it is closed.

    Raises:
        BrokenPipeError: the reader is gone; `main` then ends the command quietly.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def safe_line(line: bytes) -> bytes:
    """The line without control characters if it goes to a terminal, where they could forge another line."""
    if sys.stdout is None or not sys.stdout.isatty():
        return line
    return printable(os.fsdecode(line)).encode(errors="backslashreplace")


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings to standard error; they change neither the output nor the exit status."""
    for line in lines:
        print_error(f"ktask: warning: {line}")


def print_json(message: Message) -> None:
    """Print a message in protobuf's JSON form."""
    print_document(as_document(message))


def print_document(document: Any) -> None:
    """Print one JSON document; bytes of names that are no text become lone surrogates."""
    print_out(format_document(document))


def format_document(document: Any) -> str:
    """The text of one JSON document."""
    return json.dumps(document, indent=2)


def as_document(message: Message) -> dict[str, Any]:
    """A message in protobuf's JSON form."""
    # Loaded only here: most commands print no JSON.
    from google.protobuf.json_format import MessageToDict

    document: dict[str, Any] = whole_numbers(MessageToDict(message))
    return document


def whole_numbers(value: Any) -> Any:
    """Convert whole floats to int, since other tools print the numbers of a Struct without ".0"."""
    if isinstance(value, dict):
        return {name: whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [whole_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
