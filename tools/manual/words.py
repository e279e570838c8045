"""The commands with their options, as plain values read from the parsers of argparse."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ktask.cli import parsers

from ktaskd.daemon.main import make_parser


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Args:
        names: its spellings, "-a" before "--algorithm".
        value: name of its value; "" = it takes none.
        choices: the possible values; empty = any.
        repeats: whether it may be given several times.
    """

    names: tuple[str, ...]
    value: str
    choices: tuple[str, ...]
    help: str
    repeats: bool


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the command line that is no option."""

    name: str
    choices: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True)
class Command:
    """A program or one of its commands, and the parts of its help.

    Args:
        name: "ktask", "ktask sum" or "ktaskd".
        usage: one line, with the name.
    """

    name: str
    usage: str
    summary: str
    epilog: str
    options: tuple[Option, ...]
    words: tuple[Word, ...]

    @property
    def last(self) -> str:
        """The command without the program."""
        return self.name.rpartition(" ")[2]


def commands() -> list[Command]:
    """The commands and verbs of ktask, in the order of their names."""
    return [_command(parser) for _, parser in sorted(parsers.commands().items())]


def program() -> Command:
    """`ktask` itself, with the options that stand before a command."""
    return _command(parsers.top_parser())


def daemon() -> Command:
    """`ktaskd`."""
    return _command(make_parser())


def _command(parser: argparse.ArgumentParser) -> Command:
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage:")).strip()
    options = tuple(_option(action) for action in shown(parser) if action.option_strings)
    words = tuple(_word(action) for action in shown(parser) if not action.option_strings)
    return Command(parser.prog, usage, parser.description or "", parser.epilog or "", options, words)


def shown(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The actions that the help of a parser lists."""
    return (action for action in parser._actions if action.help != argparse.SUPPRESS)


def _option(action: argparse.Action) -> Option:
    choices = tuple(str(choice) for choice in action.choices or ())
    value = ""
    if action.nargs != 0:
        value = str(action.metavar or "|".join(choices) or action.dest.upper())
    repeats = isinstance(action, argparse._AppendAction)
    return Option(tuple(action.option_strings), value, choices, _help(action), repeats)


def _word(action: argparse.Action) -> Word:
    choices = tuple(str(choice) for choice in action.choices or ())
    return Word(str(action.metavar or "|".join(choices) or action.dest.upper()), choices, _help(action))


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")
