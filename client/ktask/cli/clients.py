"""The client of a job and its files, as far as a line has room for them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ktask.results import Job

_FILE_WIDTH, _COMMAND_WIDTH = 28, 40
_CUT = "\N{HORIZONTAL ELLIPSIS}"


def names_of(job: Job) -> list[str]:
    """The names of its files that are known: items first, a target last."""
    roles = sorted(job.spec.sources, key=lambda role: (role == "dst", role))
    sources = [*job.spec.items, *(job.spec.sources[role] for role in roles)]
    return [name for source in sources if (name := source.name or source.path)]


def files_count(job: Job) -> int:
    """How many sources it has."""
    return len(job.spec.items) + job.spec.items_omitted + len(job.spec.sources)


def format_files(job: Job) -> str:
    """The first file, cut at its front, and how many more there are; "" = none has a name."""
    names = names_of(job)
    if not names:
        return ""
    first = names[0] if len(names[0]) <= _FILE_WIDTH else _CUT + names[0][1 - _FILE_WIDTH :]
    more = files_count(job) - 1
    return f"{first} and {more} more" if more else first


def format_command(job: Job) -> str:
    """The command line of its client, without the interpreter and directories of a script, cut at its end."""
    text = _without_interpreter(job.command)
    return text if len(text) <= _COMMAND_WIDTH else text[: _COMMAND_WIDTH - 1] + _CUT


def _without_interpreter(command: str) -> str:
    """Turn `/usr/bin/python3 /usr/bin/ktask sum a` into `ktask sum a`."""
    program, _, rest = command.partition(" ")
    is_python = program.rpartition("/")[2].startswith("python")
    if is_python and rest and not rest.startswith("-"):
        program, _, rest = rest.partition(" ")
    name = program.rpartition("/")[2] or program
    return f"{name} {rest}" if rest else name
