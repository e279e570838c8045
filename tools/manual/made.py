"""The files that are written, with their contents."""

from __future__ import annotations

from pathlib import Path

from ktaskd.functions.catalogue import CATALOGUE
from tools.manual import man, reference, settings, shells, words

TOP = Path(__file__).parents[2]
MAN, SHELLS, PAGES = Path("deploy/man"), Path("deploy/completions"), Path("docs/reference")


def files() -> dict[Path, str]:
    """The text of each file, by its path in the repository."""
    return {**_man_pages(), **_completions(), **_reference()}


def _man_pages() -> dict[Path, str]:
    commands = words.commands()
    pages = [f"{one.name.replace(' ', '-')}(1)" for one in commands]
    made = {MAN / "ktask.1": man.page(words.program(), 1, [*pages, "ktaskd(8)"])}
    for one in commands:
        made[MAN / f"{one.name.replace(' ', '-')}.1"] = man.page(one, 1, ["ktask(1)", "ktaskd(8)"])
    made[MAN / "ktaskd.8"] = man.page(words.daemon(), 8, ["ktask(1)", "ktaskd.toml(5)"])
    made[MAN / "ktaskd.toml.5"] = man.settings_page(*settings.read(settings.FILE.read_text()))
    return made


def _completions() -> dict[Path, str]:
    program, commands = words.program(), words.commands()
    functions = _functions()
    return {
        SHELLS / "ktask": shells.bash(program, commands, functions),
        SHELLS / "ktaskd": shells.bash_daemon(words.daemon()),
        SHELLS / "_ktask": shells.zsh(program, commands, functions),
        SHELLS / "ktask.fish": shells.fish(program, commands, functions),
    }


def _reference() -> dict[Path, str]:
    programs = [words.program(), *words.commands(), words.daemon()]
    offered = [CATALOGUE[name] for name in _functions()]
    protos = [path.read_text() for path in sorted((TOP / "proto/ktask/v1").glob("*.proto"), reverse=True)]
    return {
        PAGES / "cli.md": reference.cli(programs),
        PAGES / "configuration.md": reference.configuration(*settings.read(settings.FILE.read_text())),
        PAGES / "functions.md": reference.functions(offered),
        PAGES / "proto.md": reference.contract(protos),
    }


def _functions() -> list[str]:
    """The functions that a user can name; the others belong to own code and to tests."""
    return sorted(name for name in CATALOGUE if not name.startswith(("python.", "selftest.")))


def stale() -> list[Path]:
    """Files that are missing or differ from what would be written, and those that nothing writes."""
    made = files()
    wrong = [path for path, text in made.items() if _kept(path) != text]
    kept = {path.relative_to(TOP) for place in (MAN, SHELLS, PAGES) for path in (TOP / place).glob("*")}
    return sorted([*wrong, *(kept - made.keys())])


def _kept(path: Path) -> str | None:
    try:
        return (TOP / path).read_text()
    except FileNotFoundError:
        return None


def write() -> list[Path]:
    """Write what is stale, remove what nothing writes; return their paths."""
    made, changed = files(), stale()
    for path in changed:
        if path in made:
            (TOP / path).parent.mkdir(parents=True, exist_ok=True)
            (TOP / path).write_text(made[path])
        else:
            (TOP / path).unlink()
    return changed
