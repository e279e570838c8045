"""What goes to standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from ktask.cli.exits import drop_output


def print_out(text: str) -> None:
    """Print text, if there is any; a reader that has left is no error.

    The reader of a pipe may want no more, as `head` does. What the command had
    to do is done, and its exit status still says how.
    """
    if not text:
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:
        drop_output()


def write_out(data: bytes) -> None:
    """Write bytes to standard output at once; nothing where that is closed.

    Raises:
        BrokenPipeError: the reader has left; `main` ends the command quietly then.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings to standard error, where they change neither the output nor the status."""
    for line in lines:
        print(f"ktask: warning: {line}", file=sys.stderr)


def print_json(message: Message) -> None:
    """Print a message in protobuf's JSON form."""
    print_document(as_document(message))


def print_document(document: Any) -> None:
    """Print one JSON document; bytes of names that are no text are lone surrogates in it."""
    print_out(format_document(document))


def format_document(document: Any) -> str:
    """The text of one JSON document."""
    return json.dumps(document, indent=2)


def as_document(message: Message) -> dict[str, Any]:
    """A message in protobuf's JSON form."""
    document: dict[str, Any] = whole_numbers(MessageToDict(message))
    return document


def whole_numbers(value: Any) -> Any:
    """Whole numbers without ".0", as other tools print the numbers of a Struct."""
    if isinstance(value, dict):
        return {name: whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [whole_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
