"""The command line of a process, as it is shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ktaskd.host.processes.commandline import command_text, read_command
from ktaskd.host.root import HostRoot


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"\0\0", ""),
        (b"tar\0-c\0.\0", "tar -c ."),
        (b"sh\0-c\0a b\0", "sh -c 'a b'"),
        (b"a\x1b[31m\nb", "'a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b'"),
        (b"\xff\0x", "'\N{REPLACEMENT CHARACTER}' x"),
        (b"x" * 300, "x" * 254 + "\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_command_line_when_shown_then_quoted_cut_and_without_control_characters(
    raw: bytes, text: str
) -> None:
    assert command_text(raw) == text


def test_command_line_when_the_process_is_ones_own_then_read() -> None:
    name = os.path.basename(sys.executable)
    assert name in read_command(HostRoot(), os.getpid(), os.geteuid())


@pytest.mark.parametrize("pid", [0, -1, 99])
def test_command_line_when_there_is_no_such_process_then_empty(tmp_path: Path, pid: int) -> None:
    assert read_command(HostRoot(tmp_path), pid, os.geteuid()) == ""


def test_command_line_when_the_process_is_of_another_user_then_empty(tmp_path: Path) -> None:
    process = tmp_path / "proc/7"
    process.mkdir(parents=True)
    (process / "cmdline").write_bytes(b"secret\0")
    assert read_command(HostRoot(tmp_path), 7, os.geteuid()) == "secret"
    assert read_command(HostRoot(tmp_path), 7, os.geteuid() + 1) == ""
