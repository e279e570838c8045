"""Completions for bash, zsh and fish. The files have every word in them and call no program."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.manual.words import Command, Option

_MADE = "# Made by `python -m tools.manual` from the parsers of the commands."


def bash(program: Command, commands: list[Command], functions: list[str]) -> str:
    """Completion for bash; it does not need the package bash-completion."""
    cases = "\n".join(f"        {one.last})\n{_bash_case(one, functions)}            ;;" for one in commands)
    names = " ".join(one.last for one in commands)
    return f"""{_MADE}
_ktask() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command= at options= values=
    COMPREPLY=()
    # Readline takes "=" as a word of its own.
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${{COMP_WORDS[at]}} in
        --socket)
            [[ ${{COMP_WORDS[at + 1]}} != = ]] || ((at++))
            ((at++))
            ;;
        -*) ;;
        *) command=${{COMP_WORDS[at]}}; break ;;
        esac
    done
    case $command in
        "")
            options="{_dashed(program)}"
            [ "$before" = --socket ] || values="{names}"
            ;;
{cases}
    esac
    if [[ $word == -* && $before != --socket ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    elif [ -n "$values" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
    fi
}}
complete -o default -F _ktask ktask
"""


def bash_daemon(daemon: Command) -> str:
    """Completion of ktaskd for bash."""
    return f"""{_MADE}
_ktaskd() {{
    COMPREPLY=()
    if [[ ${{COMP_WORDS[COMP_CWORD]}} == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "{_dashed(daemon)}" -- "${{COMP_WORDS[COMP_CWORD]}}")
    fi
}}
complete -o default -F _ktaskd ktaskd
"""


def _dashed(command: Command) -> str:
    return " ".join(name for option in command.options for name in option.names)


def _bash_case(command: Command, functions: list[str]) -> str:
    lines = [f'options="{_dashed(command)}"']
    words = _first_words(command, functions)
    if words:
        lines.append(f'((at + 1 < COMP_CWORD)) || values="{" ".join(words)}"')
    valued = [option for option in command.options if option.value]
    if valued:
        lines.append("case $before in")
        for option in valued:
            lines.append(f'{"|".join(option.names)}) values="{" ".join(option.choices)}" ;;')
        lines.append("esac")
    return "".join(f"            {line}\n" for line in lines)


def _first_words(command: Command, functions: list[str]) -> list[str]:
    """The values of the first word after a command, if they are known."""
    if not command.words:
        return []
    if command.last in ("run", "functions"):
        return functions
    if command.words[0].name == "ID":
        return ["last"]
    return list(command.words[0].choices)


def zsh(program: Command, commands: list[Command], functions: list[str]) -> str:
    """Completion for zsh, as a file of its fpath."""
    names = "\n".join(f"        {_quoted(f'{one.last}:{_plain(one.summary)}')}" for one in commands)
    cases = "\n".join(
        f"        {one.last})\n            _arguments -s -S \\\n"
        + " \\\n".join(f"                {spec}" for spec in _zsh_specs(one, functions))
        + "\n            ;;"
        for one in commands
    )
    top = " \\\n".join(f"        {spec}" for option in program.options for spec in _zsh_option(option))
    return f"""#compdef ktask
{_MADE}
_ktask() {{
    local curcontext=$curcontext state line
    local -a commands
    commands=(
{names}
    )
    _arguments -C \\
{top} \\
        '1: :->command' \\
        '*:: :->words'
    case $state in
    command)
        _describe -t commands command commands
        ;;
    words)
        case $line[1] in
{cases}
        esac
        ;;
    esac
}}
_ktask "$@"
"""


def _zsh_specs(command: Command, functions: list[str]) -> Iterator[str]:
    for option in command.options:
        yield from _zsh_option(option)
    first = _first_words(command, functions)
    if first:
        yield _quoted(f"1:{_plain(command.words[0].name)}:({' '.join(first)})")
    yield "'*:file:_files'"


def _zsh_option(option: Option) -> Iterator[str]:
    """One specification for each spelling, which excludes the others."""
    others = "*" if option.repeats else f"({' '.join(option.names)})"
    value = ""
    if option.value:
        action = f"({' '.join(option.choices)})" if option.choices else "_files"
        value = f":{_plain(option.value)}:{action}"
    for name in option.names:
        sign = ("=" if name.startswith("--") else "+") if option.value else ""
        yield _quoted(f"{others}{name}{sign}[{_plain(option.help)}]{value}")


def _plain(text: str) -> str:
    """Text without characters that mean something to _arguments."""
    return re.sub(r"[\[\]:\\]", " ", text).strip()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def fish(program: Command, commands: list[Command], functions: list[str]) -> str:
    """Completion for fish."""
    names = " ".join(one.last for one in commands)
    lines = [_MADE, f"set -l commands {names}"]
    alone = '"not __fish_seen_subcommand_from $commands"'
    lines += [_fish_option(alone, option) for option in program.options]
    for one in commands:
        lines.append(f"complete -c ktask -f -n {alone} -a {one.last} -d {_fish(one.summary)}")
    for one in commands:
        seen = f'"__fish_seen_subcommand_from {one.last}"'
        lines += [_fish_option(seen, option) for option in one.options]
        if first := _first_words(one, functions):
            lines.append(f"complete -c ktask -n {seen} -a {_fish(' '.join(first))}")
    return "\n".join(lines) + "\n"


def _fish_option(condition: str, option: Option) -> str:
    parts = ["complete -c ktask", f"-n {condition}"]
    for name in option.names:
        parts.append(f"-l {name[2:]}" if name.startswith("--") else f"-{_fish_kind(name)} {name[1:]}")
    if option.value:
        parts.append(f"-x -a {_fish(' '.join(option.choices))}" if option.choices else "-r")
    return " ".join([*parts, f"-d {_fish(option.help)}"])


def _fish_kind(name: str) -> str:
    """The option of `complete` for one letter after a dash, or for more of them."""
    return "s" if len(name) == 2 else "o"


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
