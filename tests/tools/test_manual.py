"""Man pages and completions have every command and option, and the shells load them."""

from __future__ import annotations

import argparse
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ktask.cli import parsers

from tools.manual import settings, words
from tools.manual.made import MAN, SHELLS, TOP, stale
from tools.manual.made import PAGES as PAGES_OF_REFERENCE
from tools.manual.prose import Part, parts

BASH, ZSH, FISH = TOP / SHELLS / "ktask", TOP / SHELLS / "_ktask", TOP / SHELLS / "ktask.fish"
PAGES = sorted((TOP / MAN).iterdir())


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in words.shown(parser) for name in action.option_strings}


def test_files_when_a_parser_or_the_configuration_has_changed_then_written_again() -> None:
    assert stale() == [], "run: python -m tools.manual"


@pytest.mark.parametrize("name", sorted(parsers.commands()))
def test_command_when_listed_then_all_of_its_options_everywhere(name: str) -> None:
    wanted = options_of(parsers.commands()[name])
    page = (TOP / MAN / f"ktask-{name}.1").read_text().replace("\\-", "-")
    assert {option for option in wanted if f"\\fB{option}\\fR" not in page} == set()
    case = BASH.read_text().partition(f"\n        {name})\n")[2].partition(";;\n        ")[0]
    assert set(case.partition('options="')[2].partition('"')[0].split()) == wanted
    case = ZSH.read_text().partition(f"\n        {name})\n")[2].partition(";;")[0]
    assert {
        option for option in wanted if f"{option}[" not in case.replace("=[", "[").replace("+[", "[")
    } == set()
    lines = [line for line in FISH.read_text().splitlines() if f'_from {name}"' in line]
    assert len([line for line in lines if " -d " in line]) == len(words_of(name).options)


def words_of(name: str) -> words.Command:
    (found,) = (one for one in words.commands() if one.last == name)
    return found


def test_settings_when_read_then_every_key_with_a_text() -> None:
    text = settings.FILE.read_text()
    _, sections = settings.read(text)
    keys = [key for one in sections for group in one.groups for key, _ in group.values]
    assert len(keys) == len([line for line in text.splitlines() if " = " in line and line[0] not in "#["])
    assert all(group.text for one in sections for group in one.groups)


def test_contract_when_read_then_each_declaration_has_a_section_and_nothing_else_is_in_it() -> None:
    text = (TOP / PAGES_OF_REFERENCE / "proto.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)\n\n```proto$", text, re.MULTILINE | re.DOTALL))
    sources = "\n".join(path.read_text() for path in (TOP / "proto/ktask/v1").glob("*.proto"))
    assert sections.keys() == set(re.findall(r"^(?:service|message|enum) (\w+)", sources, re.MULTILINE))
    assert sections["RunRequest"] == "RunRequest submits one job; the call returns at its end."
    assert [name for name, about in sections.items() if not about or "##" in about or "{" in about] == []


def test_prose_when_it_has_examples_then_they_keep_their_lines() -> None:
    assert list(parts("One\ntwo.\n\nexamples:\n  a\n    b\n\nexit status: 0 done,\n1 not.")) == [
        Part("", "One two.", literal=False),
        Part("examples", "a\n  b", literal=True),
        Part("exit status", "0 done, 1 not.", literal=False),
    ]


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        *[("su", "sum"), ("sum --alg", "--algorithm"), ("mode pa", "paused"), ("sum -a xx", "xxh3")],
        *[("sum --algorithm = xx", "xxh3"), ("compress --format = g", "gzip"), ("--socket = /x su", "sum")],
    ],
)
def test_bash_when_a_word_is_begun_then_completed(typed: str, wanted: str) -> None:
    words = f"COMP_WORDS=(ktask {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1))"
    script = f'. "{BASH}"; {words}; _ktask; echo "${{COMPREPLY[@]}}"'
    assert output("bash", "--norc", "-c", script).split() == [wanted]


def test_fish_when_a_word_is_begun_then_completed(tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = f'source "{FISH}"; complete -C "ktask su"; complete -C "ktask sum --alg"'
    printed = output("fish", "--no-config", "-c", script, HOME=str(tmp_path))
    assert [line.partition("\t")[0] for line in printed.splitlines()] == ["sum", "--algorithm"]


def test_zsh_when_a_word_is_begun_then_completed(tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (tmp_path / "start").write_text(
        f'PROMPT=; fpath=("{ZSH.parent}" $fpath); autoload -Uz compinit; compinit -D -u; '
        "bindkey '^I' complete-word; ktask() { print -r -- \"<$*>\"; }\n"
    )
    assert b"<sum --check>" in typed_into_zsh(tmp_path, b"ktask su\t--chec\t\n")


def typed_into_zsh(directory: Path, keys: bytes) -> bytes:
    """Everything that a terminal shows, up to the end of the shell."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(
            "zsh", ["zsh", "-f", "-i"], {"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "dumb"}
        )
    shown = b""
    with os.fdopen(terminal, "r+b", buffering=0) as both:
        both.write(f". {directory / 'start'}; print re'ady'\n".encode())
        while b"ready\r" not in shown:
            shown += both.read(4096)
        both.write(keys + b"exit\n")
        try:
            while data := both.read(4096):
                shown += data
        except OSError:  # the shell has ended
            pass
    os.waitpid(pid, 0)
    return shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_when_formatted_then_no_warning(page: Path) -> None:
    if shutil.which("mandoc") is not None:
        assert output("mandoc", "-T", "lint", "-W", "warning", str(page)) == ""
    elif shutil.which("groff") is not None:
        assert output("groff", "-man", "-ww", "-z", str(page)) == ""
    else:
        pytest.skip("neither mandoc nor groff is installed")


def output(*command: str, **environ: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **environ})
    return done.stdout + done.stderr
