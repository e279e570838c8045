"""Log lines as entries of the journal."""

from __future__ import annotations

import io
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ktaskd.daemon.journal import JournalHandler, fields_of, find_send
from ktaskd.host.logline import is_journal


def record(text: str, *args: Any, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("ktaskd.jobs", level, "engine.py", 7, text, args, None, "end")


def test_fields_when_the_line_has_keys_then_each_is_one() -> None:
    line = record(
        "job_ended job=%s uid=%d nid=%d state=%s reason=%s seconds=%.3f", "j1", 7, 0, "FAILED", "X", 1.5
    )
    assert fields_of(line) == {
        "KTASKD_EVENT": "job_ended",
        "KTASKD_JOB": "j1",
        "KTASKD_UID": "7",
        "KTASKD_NID": "0",
        "KTASKD_STATE": "FAILED",
        "KTASKD_REASON": "X",
        "KTASKD_SECONDS": "1.5",
    }


@pytest.mark.parametrize(
    ("text", "args", "wanted"),
    [
        ('reload_failed error="%s"', ("a b=%d",), {"KTASKD_ERROR": "a b=%d"}),
        ("worker_killed pid=%d reason=grace_over", (3,), {"KTASKD_PID": "3", "KTASKD_REASON": "grace_over"}),
        ("busy 100%% of=%s", ("all",), {"KTASKD_OF": "all"}),
        ("not one of ours: %s", ("x=1",), {}),
        ("too few %s %s", ("x",), {}),
        ("none", (), {}),
    ],
)
def test_fields_when_values_are_odd_then_taken_as_they_are(
    text: str, args: tuple[Any, ...], wanted: dict[str, str]
) -> None:
    found = fields_of(record(text, *args))
    found.pop("KTASKD_EVENT", None)
    assert found == wanted


def test_handler_when_it_emits_then_priority_and_fields_are_sent() -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    handler = JournalHandler(lambda text, **more: sent.append((text, more)), logging.NullHandler())
    handler.emit(record("worker_died pid=%d", 5, level=logging.WARNING))
    ((text, more),) = sent
    assert text == "worker_died pid=5"
    assert (more["PRIORITY"], more["KTASKD_PID"], more["CODE_FUNC"]) == ("4", "5", "end")


def test_handler_when_the_journal_is_gone_then_written_to_the_other() -> None:
    def gone(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    text = io.StringIO()
    JournalHandler(gone, logging.StreamHandler(text)).emit(record("ready dir=%s", "/run"))
    assert text.getvalue() == "ready dir=/run\n"


def test_journal_when_stderr_is_it_then_known_by_its_inode(tmp_path: Path) -> None:
    left, right = socket.socketpair()
    with left, right:
        status = os.fstat(left.fileno())
        stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(stream, left.fileno())
        assert not is_journal(stream, right.fileno())
        assert not is_journal({}, left.fileno())
    assert not is_journal(stream, 10_000)


def test_send_when_the_library_is_there_then_found() -> None:
    send = find_send(os.devnull)
    assert send is None or callable(send)


def test_send_when_there_is_no_socket_then_none_since_the_library_would_drop_each_line(
    tmp_path: Path,
) -> None:
    assert find_send(str(tmp_path / "none")) is None
