"""Valid manifests become declarations; errors in invalid ones name path and key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ktaskd.daemon.plugins import offered, read_plugins
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.functions.plugins.manifests import ManifestInvalid, note_of, parse_manifest
from ktaskd.model.function import Access, Native, Partial

GOOD: dict[str, Any] = {
    "name": "my.clear",
    "library": "/usr/lib/my.so",
    "symbol": "clear",
    "min_chunk": 1000,
    "source": [{"role": "data", "access": "rw"}],
}


def test_manifest_when_short_then_the_defaults() -> None:
    found = parse_manifest(GOOD)
    assert (found.name, found.unit, found.align, found.min_chunk) == ("my.clear", "byte", 1, 1000)
    assert found.partial is Partial.NONE
    assert (found.undo, found.writes_bytes, found.allocates) == (False, True, True)
    assert found.sources[0].access == Access.READ_WRITE
    assert found.native == Native("/usr/lib/my.so", "clear")


def test_manifest_when_whole_then_all_of_it_and_the_same_in_a_worker() -> None:
    more = {"undo": "back", "unit": "page", "align": 4096, "partial": "undo_tolerates"}
    found = parse_manifest({**GOOD, **more, "source": [{"role": "a", "access": "r"}]})
    assert (found.unit, found.align, found.min_chunk) == ("page", 4096, 4096)
    assert (found.undo, found.writes_bytes, found.partial) == (True, False, Partial.UNDO_TOLERATES)
    again = parse_manifest(note_of(found))
    assert (again.native, again.partial, again.min_chunk) == (found.native, found.partial, 4096)
    assert (again.writes_bytes, again.sources[0].role) == (False, "a")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "My"}, 'name: got "My", wanted'),
        ({"name": "x" * 129}, "name: got 129 bytes, wanted at most 128"),
        ({"library": "my.so"}, 'library: got "my.so", wanted an absolute path'),
        ({"symbol": "a b"}, 'symbol: got "a b"'),
        ({"undo": "1"}, 'undo: got "1"'),
        ({"min_chunk": 0}, "min_chunk: got 0, wanted 1 to"),
        ({"align": -1}, "align: got -1, wanted 1 to"),
        ({"min_chunk": True}, "min_chunk: got True, wanted int"),
        ({"partial": "maybe"}, 'partial: got "maybe", wanted one of rerun_safe, undo_tolerates, none'),
        ({"partial": "undo_tolerates"}, 'partial: "undo_tolerates" needs an undo'),
        ({"unknown": 1}, "unknown: unknown key"),
        ({"source": []}, "source: got 0, wanted exactly one table"),
        ({"source": [1]}, "source: got 1, wanted exactly one table"),
        ({"source": [{"role": "data"}]}, r"source\[0\]\.access: is missing"),
        ({"source": [{"role": "data", "access": "w"}]}, r'source\[0\]\.access: got "w", wanted r or rw'),
        ({"source": [{"role": "a b", "access": "r"}]}, r'source\[0\]\.role: got "a b"'),
    ],
)
def test_manifest_when_wrong_then_the_key_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ManifestInvalid, match=words):
        parse_manifest({**GOOD, **change})


@pytest.mark.parametrize("key", ["name", "library", "symbol", "min_chunk", "source"])
def test_manifest_when_a_key_is_missing_then_it_is_named(key: str) -> None:
    with pytest.raises(ManifestInvalid, match=f"{key}: is missing"):
        parse_manifest({name: value for name, value in GOOD.items() if name != key})


def write(path: Path, library: Path, name: str = "f") -> Path:
    path.write_text(
        f'''name = "{name}"\nlibrary = "{library}"\nsymbol = "f"\nmin_chunk = 1\n'''
        """[[source]]\nrole = "data"\naccess = "r"\n"""
    )
    path.chmod(0o644)
    return path


def test_directory_when_some_are_wrong_then_the_others_load_and_each_is_named(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.touch(0o644)
    shared = tmp_path / "shared.so"
    shared.touch()
    shared.chmod(0o666)
    write(tmp_path / "a.toml", library, "a")
    write(tmp_path / "b.toml", library, "a")
    write(tmp_path / "c.toml", library, "file.crc32")
    write(tmp_path / "d.toml", tmp_path / "none.so", "d")
    write(tmp_path / "e.toml", shared, "e")
    write(tmp_path / "f.toml", library, "f").chmod(0o664)
    (tmp_path / "g.toml").write_text("= no")
    (tmp_path / "h.toml").mkdir()
    write(tmp_path / "ignored.txt", library, "ignored")
    write(tmp_path / "z.toml", library, "z")
    found = read_plugins(str(tmp_path), CATALOGUE)
    found.close()
    assert list(found.functions) == ["a", "z"]
    wanted = [
        'b.toml: name: got "a", the name of another function',
        'c.toml: name: got "file.crc32", the name of another function',
        f"d.toml: library: {tmp_path}/none.so: No such file or directory",
        f"e.toml: library: {shared}: other users can write it (mode 0666); run chmod go-w on it",
        "f.toml: other users can write it (mode 0664); run chmod go-w on it",
        "g.toml: not TOML: ",
        "h.toml: is not a regular file",
    ]
    for problem, words in zip(found.problems, wanted, strict=True):
        assert problem.startswith(f"{tmp_path}/{words}"), problem


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_directory_when_a_file_belongs_to_somebody_else_then_refused(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.touch(0o644)
    os.chown(write(tmp_path / "a.toml", library), 12345, 0)
    (problem,) = read_plugins(str(tmp_path), ()).problems
    assert problem == f"{tmp_path}/a.toml: belongs to uid 12345; it must belong to uid 0 or 0"


def test_directory_when_others_may_replace_the_library_or_the_manifest_then_refused(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "lib.so").touch(0o644)
    write(tmp_path / "a.toml", app / "lib.so")
    app.chmod(0o777)
    (problem,) = read_plugins(str(tmp_path), ()).problems
    words = f"other users can write its directory {app} (mode 0777); run chmod go-w on it"
    assert problem == f"{tmp_path}/a.toml: library: {app}/lib.so: {words}"
    app.chmod(0o755)
    tmp_path.chmod(0o775)
    (problem,) = read_plugins(str(tmp_path), ()).problems
    assert problem.startswith(
        f"{tmp_path}/a.toml: other users can write its directory {tmp_path} (mode 0775)"
    )


def test_directory_when_there_is_none_then_nothing_is_wrong(tmp_path: Path) -> None:
    for directory in ("", str(tmp_path / "none")):
        functions, problems = offered(False, directory, (-1, -1))
        assert problems == []
        assert not any(one.native for one in functions.values())
