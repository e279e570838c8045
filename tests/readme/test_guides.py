"""Every block of the tutorial and the how-to pages works as written, and the pages name what there is."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from ktaskd.daemon.config import parse_config
from tests.readme import session
from tests.readme.blocks import blocks
from tests.readme.guides import DOCS, PAGES, START, reason_of, typed
from tests.support.users import reachable_directory


def test_guides_when_typed_from_an_empty_home_then_every_command_ends_well() -> None:
    todo = [command for page in PAGES for command in typed(page)]
    assert len(todo) > 30
    with reachable_directory() as place:
        done = session.run([*START, *todo], place, place, os.geteuid())
    assert not [f"{one.command}: status {one.status}: {one.output}" for one in done if one.status != 0]
    printed = {one.command: one.output for one in done}
    assert printed["sha256sum -c SUMS"] == printed["ktask sum -c SUMS"] == "numbers.txt: OK\n"
    assert printed["ktask search -c '9999$' numbers.txt"] == "1000\n"


def test_blocks_when_not_run_then_only_those_that_need_root_or_more() -> None:
    left_out = {
        (page.stem, block.first_line.split()[0])
        for page in PAGES
        for block in blocks(page.read_text())
        if reason_of(page, block)
    }
    assert left_out == {
        ("tutorial", "pipx"),
        ("services", "apt"),
        ("services", "systemctl"),
        ("containers", "podman"),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_when_a_page_has_some_then_the_daemon_takes_them(page: Path) -> None:
    for block in blocks(page.read_text()):
        if block.language == "toml":
            parse_config(tomllib.loads(block.text))


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_links_when_relative_then_they_lead_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_site_when_described_then_each_page_of_its_menu_exists() -> None:
    named = re.findall(r"(\S+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(), re.MULTILINE)
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} <= set(named)
    assert [name for name in named if not any((top / name).exists() for top in (DOCS, DOCS.parent))] == []
