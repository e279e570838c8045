"""The uid of nobody: user namespaces on machines that are a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktaskd.host.people.users import is_known_to_name_service, is_mapped, read_nobody
from ktaskd.host.root import HostRoot

WHOLE = "         0          0 4294967295\n"
ROOTLESS = "         0       1000          1\n         1     100000      65536\n"


def machine(top: Path, uid_map: str | None, overflow: str = "65534\n") -> HostRoot:
    (top / "proc/self").mkdir(parents=True)
    (top / "proc/sys/kernel").mkdir(parents=True)
    (top / "proc/sys/kernel/overflowuid").write_text(overflow)
    if uid_map is not None:
        (top / "proc/self/uid_map").write_text(uid_map)
    return HostRoot(top)


@pytest.mark.parametrize(
    ("uid_map", "nobody"),
    [(WHOLE, None), (None, None), (ROOTLESS, 65534), ("0 60100 1\n", 65534), ("", 65534)],
)
def test_nobody_when_not_all_uids_are_mapped_then_the_overflow_uid(
    tmp_path: Path, uid_map: str | None, nobody: int | None
) -> None:
    assert read_nobody(machine(tmp_path, uid_map)) == nobody


def test_nobody_when_the_machine_has_another_number_then_that(tmp_path: Path) -> None:
    assert read_nobody(machine(tmp_path, ROOTLESS, "1234\n")) == 1234


def test_mapped_when_the_map_has_the_uid(tmp_path: Path) -> None:
    root = machine(tmp_path, ROOTLESS)
    assert [is_mapped(root, uid) for uid in (0, 1, 65536, 65537)] == [True, True, True, False]


def test_mapped_when_the_map_is_empty_then_nobody_is(tmp_path: Path) -> None:
    assert not is_mapped(machine(tmp_path, ""), 65534)


def test_name_service_when_asked_then_knows_root_and_not_a_stranger() -> None:
    assert is_known_to_name_service(0)
    assert not is_known_to_name_service(3_999_999_999)
