"""Builds the libraries for these tests, and writes their manifests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.arch.tree import REPOSITORY

HERE = Path(__file__).parent


def build(name: str, directory: Path) -> Path:
    """Compile a C file of this directory into a library that only its owner may write."""
    library = directory / f"{name}.so"
    words = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{REPOSITORY / 'deploy'}"]
    subprocess.run([*words, "-o", library, HERE / f"{name}.c"], check=True)
    library.chmod(0o755)
    return library


def declare(directory: Path, name: str, library: Path, symbol: str, **more: object) -> Path:
    """A manifest for a function that writes memory; `more` are its other keys."""
    keys = {"name": name, "library": str(library), "symbol": symbol, "min_chunk": 1 << 20, **more}
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in keys.items()]
    path = directory / f"{name}.toml"
    path.write_text("\n".join([*lines, "[[source]]", 'role = "data"', 'access = "rw"', ""]))
    path.chmod(0o644)
    return path
