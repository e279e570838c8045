"""What goes to standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


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
        # Python would complain when it flushes what is left at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings to standard error, where they change neither the output nor the status."""
    for line in lines:
        print(f"ktask: warning: {line}", file=sys.stderr)


def print_json(message: Message) -> None:
    """Print a message in protobuf's JSON form."""
    print_out(json.dumps(_whole(MessageToDict(message)), indent=2))


def _whole(value: Any) -> Any:
    """Whole numbers without ".0", as other tools print the numbers of a Struct."""
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
