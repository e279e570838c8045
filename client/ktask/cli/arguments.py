"""Converts words of the command line to values. Pure."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ktask.v1 import jobs_pb2 as pb

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]+)(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE | re.ASCII)
_RANGE = re.compile(r"([^:@]*):([^:@]*)(?:@(-?[0-9]+))?", re.ASCII)
_DECIMAL = re.compile(r"[0-9]+(?:[KMGT]B)", re.IGNORECASE | re.ASCII)

_SIZED = re.compile(r"[0-9]+(?:[KMGT]|[KMGT]IB)", re.IGNORECASE | re.ASCII)

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(s|min|m|h|d)?", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}

SIZE_MAX = 2**63 - 1


class UsageError(Exception):
    """The command line is wrong; the text says where, and what it should be."""

    status = 2
    """The exit status; that of the program that it imitates for a verb."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse with its complaint."""
        raise UsageError(f'{message} (see "{self.prog} --help")')

    def parse_words(self, args: Sequence[str], namespace: argparse.Namespace) -> argparse.Namespace:
        """Parse words; those after "--" are no options, which argparse forgets when it parses twice."""
        words = list(args)
        end = words.index("--") if "--" in words else len(words)
        # No word of a command line contains a zero byte.
        names = [f"\0{word}" if word.startswith("-") else word for word in words[end + 1 :]]
        options = self.parse_intermixed_args([*words[:end], *names], namespace)
        for name, value in vars(options).items():
            setattr(options, name, _unmarked(value))
        return options

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse itself ignores write errors since Python 3.11.5."""
        if file is not None:
            super().print_help(file)
            return
        print(self.format_help(), end="", flush=True)


def _unmarked(value: Any) -> Any:
    """A parsed value without the mark of words after "--"."""
    if isinstance(value, list):
        return [_unmarked(one) for one in value]
    return value.removeprefix("\0") if isinstance(value, str) else value


def parser_of(
    command: str, description: str, epilog: str = "", *, json: bool = True, kind: type[Parser] = Parser
) -> Parser:
    """A parser of the words after a command, with the options that may also stand before it.

    Args:
        json: whether it takes --json.
        kind: the class of the parser.
    """
    parser = kind(
        prog=f"ktask {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # Of an option that stands before the command and after it, the latter wins.
    add_common(parser, argparse.SUPPRESS, json=json)
    return parser


def add_common(parser: Parser, default: object, *, json: bool = True) -> None:
    """Add the options that every command has."""
    parser.add_argument(
        "--socket",
        metavar="DIR_OR_PATH",
        default=default,
        help="the daemon's directory or gRPC socket",
    )
    if json:
        json_default = False if default is None else default
        parser.add_argument(
            "--json", action="store_true", default=json_default, help="print one JSON document"
        )


def size(text: str) -> int:
    """A number of bytes or positions, such as "4096", "64K", "1GiB" (units are binary)."""
    match = _SIZE.fullmatch(text)
    # KB is refused: it may mean 1000 or 1024.
    if match is None or _DECIMAL.fullmatch(text):
        raise UsageError(
            f'size: got "{text}", wanted a number, optionally followed by K, M, G, T or KiB, MiB, GiB, TiB'
        )
    value = int(match[1]) * _UNITS[(match[2] or "").upper()]
    if value > SIZE_MAX:
        raise UsageError(f'size: got "{text}", wanted at most {SIZE_MAX}')
    return value


def duration(text: str) -> float:
    """Seconds of a duration such as "90", "90s", "15m", "1.5h" or "2d"; more than 0."""
    # Loaded only here, since a help text needs no protobuf.
    from ktask.core import SECONDS_MAX

    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2] or ""] if match else 0.0
    if not 0 < seconds < SECONDS_MAX:
        raise UsageError(f'time: got "{text}", wanted a number followed by s, m, h or d')
    return seconds


def count(text: str) -> int:
    """A whole number, not negative."""
    if not re.fullmatch(r"[0-9]+", text, re.ASCII) or int(text) >= 2**32:
        raise UsageError(f'number: got "{text}", wanted 0 to {2**32 - 1}')
    return int(text)


def job_range(text: str) -> tuple[int, ...]:
    """START:LENGTH[@NID] as (start, length) or (start, length, nid)."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UsageError(f'range: got "{text}", wanted START:LENGTH or START:LENGTH@NID')
    span = size(match[1]), size(match[2])
    return span if match[3] is None else (*span, int(match[3]))


def pair(text: str, form: str) -> tuple[str, str]:
    """Both sides of the first "="; `form` is the expected form, for messages."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f'got "{text}", wanted {form}')
    return name, value


def labels(words: Iterable[str]) -> dict[str, str]:
    """Labels from words KEY=VALUE; VALUE may be empty."""
    return unique((pair(word, "KEY=VALUE") for word in words), "label")


def unique(pairs: Iterable[tuple[str, str]], what: str) -> dict[str, str]:
    """Pairs as a dict; a repeated name is an error."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f'{what} "{name}": given twice')
        found[name] = value
    return found


def divide(
    groups: Sequence[Sequence[str]], function: pb.Function
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Tell arguments and sources apart among the words after `--arg`.

    In `--arg value=7 data=PATH` the second word could be either, so the function's
    declaration decides. The first word after each `--arg` is always an argument.
    """
    roles = {source.role for source in function.sources} - {one.name for one in function.arguments}
    arguments: list[tuple[str, str]] = []
    sources: list[tuple[str, str]] = []
    for group in groups:
        for i, word in enumerate(group):
            name, value = pair(word, "KEY=VALUE")
            (sources if i and name in roles else arguments).append((name, value))
    return arguments, sources


def apart(
    pairs: Sequence[tuple[str, str]], function: pb.Function
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Tell sources and arguments apart by their names, as in `run FUNCTION data=PATH value=7`."""
    names = {one.name for one in function.arguments} - {source.role for source in function.sources}
    return [pair for pair in pairs if pair[0] not in names], [pair for pair in pairs if pair[0] in names]


def convert(given: Mapping[str, str], function: pb.Function) -> dict[str, int | float | bool | str]:
    """Arguments with the types that the function declares."""
    declared = {one.name: one for one in function.arguments}
    values = {}
    for name, text in given.items():
        if name not in declared:
            known = ", ".join(declared) or "no arguments"
            raise UsageError(
                f'argument "{name}": function "{function.name}" has no such argument, wanted {known}'
            )
        values[name] = _value(name, declared[name].type, text)
    return values


def _value(name: str, kind: str, text: str) -> int | float | bool | str:
    try:
        if kind == "int":
            return size(text) if _SIZED.fullmatch(text) else int(text, 0)
        if kind == "float":
            return _finite(text)
        if kind == "bool":
            return _boolean(text)
    except ValueError:
        words = {"int": "an integer", "float": "a number", "bool": "true or false"}
        raise UsageError(f'argument "{name}": got "{text}", wanted {words[kind]}') from None
    return text


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError
    return text.lower() in _TRUE
