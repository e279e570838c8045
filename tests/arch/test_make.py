"""`make help` lists exactly the existing targets; continuous integration uses them.

Guards: S12
"""

from __future__ import annotations

import os
import re
import subprocess

from tests.arch.tree import REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text()
PROMISED = {
    *(
        "help",
        "setup",
        "check",
        "test",
        "demo",
        "bench",
        "bench-before",
        "bench-interference",
        "bench-foreground",
        "bench-peers",
        "fault-test",
    ),
    *(
        "against",
        "vm-test",
        "install",
        "uninstall",
        "deb",
        "dist",
        "dist-check",
        "check-pythons",
        "manual",
        "docs",
        "proto",
        "lint",
        "fmt",
        "types",
        "clean",
    ),
}


def help_of(*words: str) -> str:
    # A make inside another one also prints the directory that it enters.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", *words], check=True, capture_output=True, text=True, cwd=REPOSITORY, env=environment
    )
    return done.stdout


def test_help_when_asked_then_lists_every_target() -> None:
    listed = set(re.findall(r"^  make ([\w-]+) +\S", help_of("help"), re.MULTILINE))
    declared = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    rules = set(re.findall(r"^([^\s.#:]+):(?!=)", MAKEFILE, re.MULTILINE))
    assert declared is not None
    assert listed == set(declared.group(1).split()) == rules == PROMISED


def test_make_when_no_target_is_named_then_help() -> None:
    assert help_of() == help_of("help")


def test_continuous_integration_when_run_then_the_same_target() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text()


def test_scripts_when_parsed_then_sound() -> None:
    for script in (REPOSITORY / ".ci" / "run", REPOSITORY / "tools" / "setup.sh"):
        subprocess.run(["bash", "-n", script], check=True)


def test_readme_when_it_exists_then_names_the_two_commands() -> None:
    readme = REPOSITORY / "README.md"
    assert not readme.exists() or {"make demo", "make test"} <= set(
        re.findall(r"make \w+", readme.read_text())
    )
