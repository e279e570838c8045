"""A package with functions is described by a separate process, and loaded only in workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ktask
import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.functions.plugins.described import DescriptionInvalid, from_json, to_json
from tests.arch.tree import REPOSITORY
from tests.support.real_daemon import Daemon, running
from tests.support.users import reachable_directory

EXAMPLE = Path(__file__).parent / "example"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon in its own environment, into which pip has installed the package."""
    with reachable_directory() as place:
        python = environment(place / "venv")
        shutil.copytree(EXAMPLE, place / "example")
        pip = f"{sys.executable} -m pip --python {python} install --quiet --no-deps --no-build-isolation"
        subprocess.run([*pip.split(), "--disable-pip-version-check", place / "example"], check=True)

        install_by_hand(place, "loose", 0o666)
        install_by_hand(place, "tight", 0o644)

        def popen(command: list[Any], **options: Any) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [python, "-m", "ktaskd", *command[command.index("--runtime-dir") :]], **options
            )

        with running(place / "run", popen=popen) as started:
            yield started


def environment(place: Path) -> Path:
    """Make an environment that sees all of our packages; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    ours = [sysconfig.get_paths()["purelib"], str(REPOSITORY), str(REPOSITORY / "client")]
    (inner,) = place.glob("lib/python*/site-packages")
    (inner / "ours.pth").write_text("\n".join(ours) + "\n")
    return place / "bin/python"


def install_by_hand(place: Path, name: str, mode: int) -> None:
    """Make a package of one module with this file mode and the function example.NAME."""
    (inner,) = place.glob("venv/lib/python*/site-packages")
    (inner / f"{name}.py").write_text(
        "from dataclasses import replace\nfrom word_count import Words as Base\nclass Words(Base):\n"
        f"    declaration = replace(Base.declaration, name='example.{name}')\n"
    )
    (inner / f"{name}.py").chmod(mode)
    about = inner / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[ktaskd.functions]\nexample.{name} = {name}:Words\n")


@pytest.fixture
def client(daemon: Daemon) -> Iterator[ktask.Client]:
    with ktask.connect(daemon.place) as client:
        yield client


def test_plugin_when_installed_then_listed_and_what_is_broken_is_reported(
    client: ktask.Client, daemon: Daemon
) -> None:
    tight, found = sorted(
        (one for one in client.functions() if one.name.startswith("example.")), key=lambda one: one.name
    )
    assert tight.name == "example.tight"
    assert (found.name, found.summary, found.combine) == ("example.words", "Counts words.", True)
    problem, loose = sorted(text for text in client.status().missing if "example" in text)
    assert "entry point example.loose (loose:Words): " in loose
    assert loose.endswith("/loose.py: other users can write it (mode 0666); run chmod go-w on it")
    assert "entry point example.broken (word_count.broken:Nothing): ModuleNotFoundError" in problem
    maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
    assert "word_count" not in maps


def test_plugin_when_run_then_what_wc_says(client: ktask.Client, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"".join(b"word%d   and\tmore\n" % i for i in range(500_000)) + b"end")
    wanted = int(subprocess.run(["wc", "-w", path], capture_output=True, check=True).stdout.split()[0])
    for threads in (1, 2):
        result = client.run("example.words", data=path, max_threads=threads).result
        assert result is not None
        assert int(result["words"]) == wanted


@pytest.mark.parametrize(
    "name", sorted(name for name, one in CATALOGUE.items() if not (one.needs or one.own))
)
def test_declaration_when_sent_as_json_then_the_same(name: str) -> None:
    declaration = replace(CATALOGUE[name], selftest=False)
    assert from_json(to_json(declaration)) == declaration


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 7}, "name: got 7, wanted str"),
        ({"align": 0}, "align: got 0, wanted at least 1"),
        ({"min_chunk": 3, "align": 2}, "min_chunk: got 3, wanted a multiple of align, 2"),
        ({"partial": "x"}, "function 'f': ValueError"),
        ({"partial": "undo_tolerates"}, 'partial: "undo_tolerates" needs an undo'),
        ({"undo": True}, "undo_summary: is empty"),
        ({"sources": [{"role": "a"}]}, "function 'f': KeyError: 'access'"),
        ({"arguments": [3]}, "function 'f': TypeError"),
        ({"allocates": 1}, "allocates: got 1, wanted bool"),
    ],
)
def test_declaration_when_it_is_wrong_then_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DescriptionInvalid, match=words):
        from_json({"name": "f", "summary": "s", **change})
