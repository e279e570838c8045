"""One small job of each function that works in quanta, on fresh sources."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Body, Context, Json
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.worker.sources import Source
from tests.functions.inprocess import MIB, PAGE, lay_out, opened, seal

Layout = list[tuple[int, bytes]]

WHOLE_CALLS = {"python.run", "python.calls"}
"""Functions that call code which reports nothing."""

SELFTESTS = {"selftest.noop", "selftest.fail", "selftest.crash", "selftest.hang"}
"""Functions that do nothing at nearly all positions."""


@dataclass(frozen=True, repr=False)
class Case:
    """A job: its function, arguments, and sources as (kind, length, data)."""

    name: str
    arg: Mapping[str, Any]
    sources: Mapping[str, tuple[str, int, Layout]]
    items: tuple[tuple[int, Layout], ...] = ()
    count: int = 0
    """Positions; 0 = the items, or the bytes of the first source."""
    written: str = ""
    """The role of the source that the job changes."""

    @property
    def boundary(self) -> int:
        """Chunks may be cut at multiples of this."""
        declaration = CATALOGUE[self.name]
        return int(self.arg[declaration.boundary]) if declaration.boundary else declaration.align

    @contextmanager
    def opened(self, directory: Path) -> Iterator[Context]:
        """The context of the whole job."""
        with Opened(directory) as open_one:
            sources = {role: open_one(*layout) for role, layout in self.sources.items()}
            items = {i: open_one("file", *layout) for i, layout in enumerate(self.items)}
            defaults = {item.name: item.default for item in CATALOGUE[self.name].arguments}
            count = self.count or len(items) or next(iter(sources.values())).size()
            yield Context({**defaults, **self.arg}, sources, items, (0, count), True)  # type: ignore[dict-item]


class Opened:
    """Opens sources with their content, and closes all of them at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: list[Any] = []

    def __enter__(self) -> Callable[[str, int, Layout], Source]:
        return self._one

    def _one(self, kind: str, size: int, data: Layout) -> Source:
        manager = opened(kind, self._directory, name=f"s{len(self._open)}")
        source = manager.__enter__()
        self._open.append(manager)
        lay_out(source, size, data)
        if kind == "sealed":
            seal(source)
        return source

    def __exit__(self, *_: object) -> None:
        for manager in self._open:
            manager.__exit__(None, None, None)


def outcome(context: Context, case: Case, combined: Json) -> tuple[Json, bytes]:
    """Everything that a client sees of a job."""
    shown = {name: value for name, value in combined.items() if not name.startswith(("_", "resident"))}
    if case.name == "mem.copy":
        # A worker that gets nothing but holes does not map the target, and so looks at none of its pages.
        shown.pop("pages_sampled", None)
    if not case.written:
        return shown, b""
    fd = context.sources[case.written].fd
    return shown, hashlib.sha256(os.pread(fd, os.fstat(fd).st_size, 0)).digest()


def fresh(name: str) -> Body:
    """A body of its own, as another worker has it."""
    return type(find(name))()


def _noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _text() -> bytes:
    short, long = b"an ordinary line\n", b"x" * MIB + b"ordinary\n"
    return short * 50_000 + long + short * 9 + long[: MIB // 3] + b"\n" + short * 40_000 + long * 2


_SIZE = 9 * MIB + PAGE // 2
_NOISE = _noise(_SIZE)
_SPARSE: Layout = [(PAGE, _NOISE[: 3 * MIB]), (7 * MIB, _NOISE[:PAGE])]
_DENSE: Layout = [(0, _NOISE)]
_FILES = tuple((size, [(0, _NOISE[:size])]) for size in (0, 1, 3 * MIB, PAGE, 4 * MIB + 1, 2 * MIB))
_DIGESTS = b"".join(hashlib.sha256(_NOISE[i : i + MIB]).digest() for i in range(0, _SIZE, MIB))
_BLOCKS = -(-_SIZE // MIB)
_FRAMES = b"".join(zstandard.compress(_NOISE[: size * MIB]) for size in (1, 5, 1, 1, 4)) + zstandard.compress(
    b""
)
_UNKNOWN = zstandard.ZstdCompressor(write_content_size=False).compress(_NOISE)
_GAPS = _NOISE[: 4 * MIB] + bytes(3 * MIB) + _NOISE[7 * MIB :]


def _data(
    layout: Layout = _DENSE, kind: str = "file", size: int = _SIZE
) -> dict[str, tuple[str, int, Layout]]:
    return {"data": (kind, size, layout)}


def _copied(kind: str) -> dict[str, tuple[str, int, Layout]]:
    return {"src": ("file", _SIZE, _SPARSE), "dst": (kind, _SIZE, [(5 * MIB, b"y" * MIB)])}


def _archived(data: bytes) -> dict[str, tuple[str, int, Layout]]:
    return {"src": ("file", len(data), [(0, data)]), "dst": ("file", 0, [])}


CASES = [
    Case("mem.fill", {"value": 7}, _data(_SPARSE, "sealed"), written="data"),
    Case("mem.fill", {"value": 0}, _data(_SPARSE, "sealed"), written="data"),
    Case("mem.fill", {"value": 7}, _data(_SPARSE), written="data"),
    Case("mem.fill", {"value": 7}, _data(_SPARSE, "sealed", 40 * MIB), written="data"),
    Case("mem.populate", {}, _data(_SPARSE, "sealed"), written="data"),
    Case("mem.copy", {}, {**_copied("sealed"), "src": ("sealed", _SIZE, _SPARSE)}, written="dst"),
    Case(
        "mem.pattern",
        {"record": "01020304000000", "index_at": 2, "index_bytes": 4},
        _data([], "sealed"),
        written="data",
    ),
    Case("file.copy", {"checksum": True}, _copied("file"), written="dst"),
    Case("file.copy", {}, _copied("sealed"), written="dst"),
    Case("file.allocate", {}, _data([], "file", 300 * MIB), written="data"),
    Case("file.punch", {}, _data(_DENSE, "file", 40 * MIB), written="data"),
    Case("file.warm", {}, _data()),
    Case("file.warm", {}, {}, _FILES),
    Case("file.compare", {}, {"a": ("file", _SIZE, _DENSE), "b": ("file", _SIZE, _DENSE)}),
    Case("file.compare", {}, {"a": ("file", _SIZE, _DENSE), "b": ("file", _SIZE, [(0, _GAPS)])}),
    Case("file.crc32", {}, _data()),
    Case("file.crc32", {}, _data(_DENSE, "sealed")),
    Case("file.crc32", {}, {}, _FILES),
    Case("file.crc32c", {}, _data(_SPARSE, "sealed")),
    Case("file.sha256", {}, {}, _FILES),
    Case("file.sha512", {}, {}, _FILES),
    Case("file.blake3", {}, {}, _FILES),
    Case("file.xxh3", {"block": MIB}, _data(), count=_BLOCKS),
    Case("file.manifest", {"block": 4 * MIB}, _data(), count=-(-_SIZE // (4 * MIB))),
    Case(
        "file.verify",
        {"block": MIB},
        {**_data(), "expected": ("file", len(_DIGESTS), [(0, _DIGESTS)])},
        count=_BLOCKS,
    ),
    Case("file.compress", {"frame": 4 * MIB}, _archived(_NOISE), written="dst"),
    Case("file.decompress", {}, _archived(_FRAMES), written="dst"),
    Case("file.decompress", {}, _archived(_UNKNOWN), written="dst"),
    Case("text.search", {"pattern": "ordinary", "show": "offsets"}, _data([(0, _text())], size=len(_text()))),
    Case("text.search", {"pattern": "o.d", "regex": True}, _data([(0, _text())], size=len(_text()))),
    Case("text.search", {"pattern": "x"}, {}, _FILES),
    Case(
        "text.extract",
        {"pattern": "ordinary"},
        {**_data([(0, _text())], size=len(_text())), "lines": ("sealed", len(_text()), [])},
        written="lines",
    ),
    Case("array.reduce", {"dtype": "uint8"}, _data()),
    Case("array.map", {"dtype": "uint8", "ufunc": "invert"}, _data(_DENSE, "sealed"), written="data"),
    Case("selftest.spin", {"ms": 0.0}, {}, count=50),
    Case("selftest.undo_log", {"record": 3}, _data([], size=99), written="data"),
]
