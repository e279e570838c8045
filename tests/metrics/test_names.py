"""Names of users."""

from __future__ import annotations

from pathlib import Path

from ktaskd.host.root import HostRoot
from ktaskd.metrics.names import Names, parse


def test_parse_when_lines_are_odd_then_skipped_and_the_first_name_counts() -> None:
    assert parse("a:x:1:\nb:x:1:\n\n#c\n:x:2:\nd:x:-3:\ne:x:٤:\nf:x\n+::::::\ng:x:5:") == {1: "a", 5: "g"}


def test_names_when_the_file_changes_then_read_again(tmp_path: Path) -> None:
    names = Names(HostRoot(tmp_path))
    names.renew()
    assert names(7) == "7"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("ann:x:7:7::/:/bin/sh\n")
    names.renew()
    assert names(7) == "ann"
    assert names(8) == "8"
