"""Pages of man(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ktaskd import __version__
from tools.manual.prose import Part, parts
from tools.manual.settings import Section
from tools.manual.words import Command, Option

_MADE = '.\\" Made by `python -m tools.manual`.'
DATE = "2026-12-01"
"""Of the last large change of these pages."""


def page(command: Command, section: int, also: list[str]) -> str:
    """The page of a program or of one of its commands.

    Args:
        also: other pages, such as "ktask(1)".
    """
    name = command.name.replace(" ", "-")
    summary = command.summary.rstrip(".")
    lines = [*_title(name, section), ".SH NAME", f"{_text(name)} \\- {_text(_lower(summary))}"]
    lines += [".SH SYNOPSIS", f"{_text(command.usage)}", ".SH DESCRIPTION", _text(command.summary)]
    told = list(parts(command.epilog))
    lines += [line for part in told if not part.heading for line in _part(part)]
    lines += [".SH OPTIONS"] if command.options or command.words else []
    for word in command.words:
        if word.help:
            lines += [".TP", f"\\fI{_text(word.name)}\\fR", _text(word.help)]
    for option in command.options:
        lines += [".TP", _names(option), _text(option.help or " ")]
    lines += [line for part in told if part.heading for line in _part(part)]
    return _end(lines, also)


def settings_page(intro: str, sections: list[Section]) -> str:
    """ktaskd.toml(5)."""
    lines = [*_title("ktaskd.toml", 5), ".SH NAME", "ktaskd.toml \\- configuration of ktaskd"]
    lines += [".SH SYNOPSIS", "/etc/ktaskd/ktaskd.toml", ".SH DESCRIPTION"]
    lines += [_text(intro), ".PP", "The file is in TOML. The values here are the defaults."]
    for section in sections:
        lines.append(f".SH [{section.name}]")
        lines += [_text(section.text)] if section.text else []
        for group in section.groups:
            for key, value in group.values[:-1]:
                lines += [".TP", f"\\fB{_text(key)}\\fR = {_text(value)}", ".PD 0"]
            key, value = group.values[-1]
            lines += [".TP", f"\\fB{_text(key)}\\fR = {_text(value)}", _text(group.text), ".PD"]
    return _end(lines, ["ktaskd(8)"])


def _title(name: str, section: int) -> list[str]:
    book = {1: "User Commands", 5: "File Formats", 8: "System Administration"}[section]
    return [_MADE, f'.TH {name.upper()} {section} {DATE} "ktaskd {__version__}" "{book}"', ".nh", ".ad l"]


def _end(lines: list[str], also: list[str]) -> str:
    references = [re.sub(r"^(.*)\((\d)\)$", r".BR \1 (\2)", one) for one in also]
    if references:
        lines = [*lines, ".SH SEE ALSO", *(f"{one} ," for one in references[:-1]), references[-1]]
    return "\n".join(lines) + "\n"


def _part(part: Part) -> Iterator[str]:
    yield f".SH {part.heading.upper()}" if part.heading else ".PP"
    if part.literal:
        yield ".EX"
        yield from (_text(line) for line in part.text.splitlines())
        yield ".EE"
    else:
        yield _text(part.text)


def _names(option: Option) -> str:
    value = f" \\fI{_text(option.value)}\\fR" if option.value else ""
    return ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names) + value


def _text(text: str) -> str:
    """Text that roff prints as it is; a line does not begin with a control character."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    text = text.replace("`", "\\(ga").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
