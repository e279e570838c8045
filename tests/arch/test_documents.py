"""Everything that the documents name exists.

Guards: S11
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import yaml

TOP = Path(__file__).parents[2]


def test_readme_when_read_then_it_names_the_two_commands_and_its_links_lead_somewhere() -> None:
    text = (TOP / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    for page in (TOP / "README.md", *TOP.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def test_contributing_when_it_names_a_target_or_a_path_then_it_is_there() -> None:
    text = (TOP / "CONTRIBUTING.md").read_text()
    code = " ".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    code += " ".join(re.findall(r"(?<!`)`([^`\n]+)`", text)) + " " + links(text)
    targets = set(re.findall(r"^([a-z-]+):.*## ", (TOP / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", code))
    assert {"setup", "check", "test"} <= named <= targets
    paths = re.findall(r"(?<![\w./])\.?(?:[\w-]+/)+[\w.-]+|\b\w+\.(?:md|toml)\b", code)
    assert len(paths) > 15
    assert [path for path in paths if not path.startswith(".venv/") and not (TOP / path).exists()] == []


def links(text: str) -> str:
    return " ".join(re.findall(r"\]\((?!https?:)([^)#]+)\)", text))


def test_contributing_when_it_names_a_program_then_setup_has_installed_it() -> None:
    text = (TOP / "CONTRIBUTING.md").read_text()
    programs = set(re.findall(r"\.venv/bin/([\w-]+)", text))
    assert programs
    assert [name for name in programs if not (Path(sys.executable).parent / name).exists()] == []


def test_contributing_when_it_names_a_module_to_run_then_there_is_one() -> None:
    modules = re.findall(r"python -m ((?:tests|tools)[\w.]+)", (TOP / "CONTRIBUTING.md").read_text())
    assert modules
    for module in modules:
        path = TOP / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_hooks_when_run_before_a_commit_then_programs_of_the_environment_and_no_network() -> None:
    config = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    programs = [hook["entry"].split()[0] for hook in hooks]
    assert {".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/lint-imports"} == set(programs)
    for program in programs:
        assert os.access(Path(sys.executable).parent / Path(program).name, os.X_OK), program
