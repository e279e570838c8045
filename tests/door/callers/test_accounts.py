"""Accounts of uids, from the machine's files and its name service."""

from __future__ import annotations

import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.door.callers.accountbook import LOOK_S, NAMED_S, AccountBook, UserSource
from ktaskd.door.callers.accounts import STRANGERS, AccountTable, SubRange, parse_passwd, parse_subuids
from ktaskd.host.people.users import UserFiles, read_stamp, read_user_files
from ktaskd.host.root import HostRoot

PASSWD = """root:x:0:0:root:/root:/bin/bash
ann:x:1000:1000::/home/ann:/bin/sh
bob:x:1001:1001::/home/bob:/bin/sh
broken
worse:x:minus one:0::/:/bin/sh
"""
SUBUID = """ann:100000:65536
1001:300000:1000
root:500000:100
# nobody:x:y
gone:700000:65536
bob:4294967296:10
ann:800000:0
"""


def table(passwd: str = PASSWD, subuid: str = SUBUID) -> AccountTable:
    uids = parse_passwd(passwd)
    return AccountTable(uids.values(), parse_subuids(subuid, uids), admins=(0,))


def test_account_when_the_uid_is_subordinate_then_its_owners() -> None:
    accounts = table()
    assert [accounts.find(uid) for uid in (1000, 100_000, 165_535, 300_999)] == [1000, 1000, 1000, 1001]
    assert [accounts.find(uid) for uid in (165_536, 60_001, 99_999, 700_000, 2**32 - 2)] == [None] * 5


def test_account_when_the_owner_is_an_admin_then_never_the_admins() -> None:
    accounts = table()
    assert accounts.find(0) == 0
    foreign = accounts.find(500_000)
    assert foreign == accounts.find(500_099)
    assert foreign is not None
    assert foreign < STRANGERS


@given(st.text(), st.text())
def test_files_when_they_hold_anything_then_read_without_an_error(passwd: str, subuid: str) -> None:
    accounts = table(passwd, subuid)
    for uid in (0, 1, 1000, 2**32 - 2):
        accounts.find(uid)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 50), st.integers(1000, 1003)), max_size=8))
def test_account_when_ranges_lie_anywhere_then_an_owner_of_it_or_none(
    ranges: list[tuple[int, int, int]],
) -> None:
    found = AccountTable([], [SubRange(*one) for one in ranges])
    for uid in range(1, 560):
        owners = {owner for start, count, owner in ranges if start <= uid < start + count}
        assert found.find(uid) is None or found.find(uid) in owners


class Machine:
    """Files that can change, and a name service that answers on request."""

    def __init__(self) -> None:
        self.files = UserFiles(PASSWD, SUBUID, ("first",))
        self.known = {70_000}
        self.asked: list[int] = []
        self.answers = threading.Event()
        self.time_s = 0.0
        source = UserSource(lambda: self.files.stamp, lambda: self.files, self._is_known)
        self.book = AccountBook(source, frozenset({0}), lambda: self.time_s)

    def _is_known(self, uid: int) -> bool:
        self.asked.append(uid)
        self.answers.wait()
        return uid in self.known

    def settle(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "accounts":
                thread.join()


def test_book_when_the_name_service_hangs_then_a_stranger_until_it_answers() -> None:
    machine = Machine()
    assert [machine.book.account_of(uid) for uid in (1000, 70_000, 70_001, 70_000)] == [1000, -1, -1, -1]
    machine.answers.set()
    machine.settle()
    assert [machine.book.account_of(uid) for uid in (70_000, 70_001)] == [70_000, STRANGERS]
    assert sorted(machine.asked) == [70_000, 70_001], "each was asked once"
    machine.time_s = NAMED_S + 1
    machine.book.account_of(70_001)
    machine.settle()
    assert machine.asked[-1] == 70_001


def test_book_when_the_files_change_then_read_again() -> None:
    machine = Machine()
    machine.answers.set()
    machine.files = UserFiles("eve:x:1005:1::/:/bin/sh\n", "eve:100000:65536\n", ("second",))
    assert machine.book.account_of(100_000) == 1000, "they are not looked at each time"
    machine.time_s = LOOK_S
    machine.book.account_of(0)
    machine.settle()
    assert machine.book.account_of(100_000) == 1005


def test_files_when_they_are_there_or_not_then_texts_and_a_stamp(tmp_path: Path) -> None:
    root = HostRoot(tmp_path)
    nothing = read_user_files(root)
    assert (nothing.passwd, nothing.subuid) == ("", "")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"j\xfcrgen:x:1000:1::/:/bin/sh\n")
    found = read_user_files(root)
    assert parse_passwd(found.passwd) == {"j\ufffdrgen": 1000}
    assert found.stamp == read_stamp(root) != nothing.stamp


def test_account_when_a_range_lies_in_another_then_what_is_behind_it_belongs_to_the_other() -> None:
    table = AccountTable([], [SubRange(100, 100, 1), SubRange(120, 10, 2), SubRange(125, 2, 3)])
    assert [table.find(uid) for uid in (119, 120, 126, 127, 129, 130, 199, 200)] == [
        1,
        2,
        3,
        2,
        2,
        1,
        1,
        None,
    ]


def test_book_when_only_the_name_service_knows_an_owner_then_asked_without_waiting() -> None:
    answers, asked = threading.Event(), []

    def find_uid(name: str) -> int | None:
        asked.append(name)
        answers.wait()
        return {"carla": 70_000}.get(name)

    files = UserFiles(PASSWD, SUBUID + "carla:900000:100\n# nobody:1:1\ndave:950000:100\n", ("first",))
    source = UserSource(lambda: files.stamp, lambda: files, lambda _: False, find_uid)
    book = AccountBook(source, frozenset({0}), lambda: 0.0)
    assert book.account_of(900_001) == STRANGERS, "it is not waited for"
    answers.set()
    for thread in threading.enumerate():
        if thread.name == "accounts":
            thread.join()
    assert [book.account_of(uid) for uid in (900_001, 950_001)] == [70_000, STRANGERS]
    assert sorted(asked) == ["carla", "dave", "gone"]
    for thread in threading.enumerate():
        if thread.name == "accounts":
            thread.join()
