"""The pages of reference in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ktaskd.model.function import Argument, Declaration
from tools.manual.prose import Part, parts
from tools.manual.settings import Section
from tools.manual.words import Command, Option

_MADE = "<!-- Made by `python -m tools.manual`. -->\n"


def cli(programs: Iterable[Command]) -> str:
    """All commands with their options."""
    return _page("Commands", "Each command prints the same with `--help`.", map(_command, programs))


def _command(command: Command) -> str:
    lines = [f"## {command.name}", "", _text(command.summary), "", "```text", command.usage, "```", ""]
    told = list(parts(command.epilog))
    lines += [line for part in told if not part.heading for line in _part(part)]
    rows = [f"| `{_cell(word.name)}` | {_cell(word.help)} |" for word in command.words if word.help]
    rows += [f"| {_names(option)} | {_cell(option.help)} |" for option in command.options]
    lines += ["| word or option | meaning |", "|---|---|", *rows, ""] if rows else []
    lines += [line for part in told if part.heading for line in _part(part)]
    return "\n".join(lines)


def _part(part: Part) -> Iterator[str]:
    if part.heading:
        yield from (f"**{part.heading.capitalize()}**", "")
    yield from ("```text", part.text, "```", "") if part.literal else (_text(part.text), "")


def _names(option: Option) -> str:
    value = f" {option.value}" if option.value else ""
    return ", ".join(f"`{name}`" for name in (*option.names[:-1], _cell(option.names[-1] + value)))


def configuration(intro: str, sections: list[Section]) -> str:
    """Every key with its default and its meaning."""
    return _page("Configuration", _text(intro), map(_section, sections))


def _section(section: Section) -> str:
    lines = [f"## [{section.name}]", ""]
    lines += [_text(section.text), ""] if section.text else []
    for group in section.groups:
        lines += ["```toml", *(f"{key} = {value}" for key, value in group.values), "```", ""]
        lines += [_text(group.text), ""]
    return "\n".join(lines)


def functions(declarations: Iterable[Declaration]) -> str:
    """All functions with their sources and arguments."""
    intro = "`ktask functions NAME` prints the same, and whether a function is available on this machine."
    return _page("Functions", intro, map(_function, declarations))


def _function(function: Declaration) -> str:
    lines = [f"## {function.name}", "", _text(function.summary), ""]
    if function.undo_summary:
        lines += [f"Undo: {_text(function.undo_summary)}", ""]
    if function.needs:
        lines += [f"Needs the Python module {', '.join(f'`{name}`' for name in function.needs)}.", ""]
    if function.sources:
        rows = [f"| `{one.role}` | {one.access} | {_cell(one.summary)} |" for one in function.sources]
        lines += ["| source | access | meaning |", "|---|---|---|", *rows, ""]
    if function.arguments:
        rows = [_argument(one) for one in function.arguments]
        lines += ["| argument | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _argument(one: Argument) -> str:
    kind = " or ".join(f"`{choice}`" for choice in one.choices) or one.type.value
    default = "required" if one.default is None else f"`{_cell(str(one.default) or '(empty)')}`"
    return f"| `{one.name}` | {kind} | {default} | {_cell(one.summary)} |"


def contract(texts: Iterable[str]) -> str:
    """The .proto files: services, messages and enums with their comments."""
    intro = "The gRPC contract. `grpcurl` and other clients use it directly."
    return _page("Contract", intro, (part for text in texts for part in _definitions(text)))


def _definitions(text: str) -> Iterator[str]:
    pattern = r"((?:^//[^\n]*\n)*)^(service|message|enum) (\w+) (\{\}|\{\n.*?^\})"
    for comment, kind, name, body in re.findall(pattern, text, re.MULTILINE | re.DOTALL):
        said = " ".join(line.removeprefix("//").strip() for line in comment.splitlines())
        yield f"## {name}\n\n{_text(said)}\n\n```proto\n{kind} {name} {body}\n```\n"


def _page(title: str, intro: str, sections: Iterable[str]) -> str:
    return "\n".join([f"# {title}\n", _MADE, f"{intro}\n", *sections]).rstrip() + "\n"


def _text(text: str) -> str:
    """Text that Markdown prints as it is, outside of spans of code."""
    spans = re.split(r"(`[^`]*`)", text)
    return "".join(one if one[:1] == "`" else re.sub(r"([*_<\[\]])", r"\\\1", one) for one in spans)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")
