"""Names of compressed files."""

from __future__ import annotations

import pytest
from ktask.cli.archives.names import compressed_name, plain_name


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (b"a.zst", b"a"),
        (b"a.tar.gz", b"a.tar"),
        (b"x/a.tgz", b"x/a.tar"),
        (b"a.tzst", b"a.tar"),
        (b".zst", None),
        (b"x/.gz", None),
        (b"a.txt", None),
        (b"a", None),
    ],
)
def test_name_when_decompressed_then_without_its_suffix(name: bytes, plain: bytes | None) -> None:
    assert plain_name(name) == plain
    assert plain_name(compressed_name(name, "zstd")) == name
