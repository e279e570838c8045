"""Every command ends quietly when its reader leaves, and prints one document with --json.

Tests: client/ktask/cli/main.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ktask.cli.parsers import _PARSERS
from ktask.cli.verbs import NAMES

from tests.client.shell import KTASK, WAIT_S, environment
from tests.client.shell import ktask as command
from tests.support.real_daemon import Daemon, running

READER_GONE = 128 + signal.SIGPIPE


class World:
    """A daemon with a job, and files to work on."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        """Make the files that commands name."""
        self.socket = daemon.place
        self.files = [place / name for name in ("a", "b")]
        for path in self.files:
            path.write_bytes(b"x" * 5000)
        self.list = place / "list"
        self.list.write_text(command(self.socket, "manifest", *self.files).out)
        self.many = place / "many"
        # More than a pipe holds.
        self.many.write_text(self.list.read_text().splitlines(keepends=True)[0] * 2000)
        self.packed = place / "packed.zst"
        command(self.socket, "compress", "-o", self.packed, self.files[0])
        self.job = command(self.socket, "run", "selftest.noop", "--range", "0:1", "--detach").out.strip()

    def words(self, line: str) -> list[str]:
        """The words of a command line, with the placeholders filled in."""
        names = {
            "JOB": self.job,
            "A": self.files[0],
            "B": self.files[1],
            "LIST": self.list,
            "MANY": self.many,
            "PACKED": self.packed,
            "COPY": self.packed.with_name("copy"),
            "FILLED": self.packed.with_name("filled"),
        }
        return [str(names.get(word, word)).replace("=A", f"={self.files[0]}") for word in line.split()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("every")
    with running(place / "run", "--own-user") as daemon:
        yield World(daemon, place)


COMMANDS = [
    "run file.crc32 data=A",
    "run file.crc32 --items A B",
    "run selftest.noop --range 0:1 --detach",
    "jobs",
    "show JOB",
    "explain JOB",
    "watch JOB",
    "cancel JOB",
    "status",
    "mode",
    "mode auto",
    "functions",
    "functions file.copy",
    "manifest A B",
    "verify LIST",
    "verify MANY",
    "hold x=A",
    "--version",
]
IMITATED = [
    "sum A B",
    "sum -c LIST",
    "sum -c MANY",
    "compare A B",
    "copy A COPY",
    "fill -s 1K FILLED",
    "search -vc nosuch A B",
    "warm A B",
    "compress -c A",
    "decompress -c PACKED",
]
"""Verbs that imitate another program; none has --json."""
HELP = ["--help", *(f"{name} --help" for name in (*_PARSERS, *NAMES))]


def test_commands_when_compared_then_each_is_here() -> None:
    # The exit status of doctor depends on the machine; its own tests are in test_doctor.
    assert {"doctor", *(line.split()[0] for line in COMMANDS)} >= _PARSERS.keys()
    # The view of `top` needs a terminal; its own tests are in cli/top.
    assert {"top", *(line.split()[0] for line in IMITATED)} == set(NAMES)


def run_with(world: World, words: list[str], **streams: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command; interrupt `hold` when it has printed its handles, or failed to."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    with subprocess.Popen([KTASK, *words], env=environment(world.socket), **options) as process:  # type: ignore[call-overload]
        if "hold" in words and process.stdout is not None:
            text = process.stdout.readline()
            while b"--json" in [word.encode() for word in words] and not text.endswith(b"\n}\n"):
                text += process.stdout.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_S)
            return subprocess.CompletedProcess(words, process.returncode, text + out, err)
        out, err = process.communicate(timeout=WAIT_S)
        return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.mark.parametrize("line", [*COMMANDS, *IMITATED, *(f"{line} --json" for line in COMMANDS), *HELP])
def test_command_when_its_reader_has_left_then_it_ends_quietly(world: World, line: str) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as closed:
        done = run_with(world, world.words(line), stdout=closed)
    assert done.returncode in (0, READER_GONE)
    assert done.stderr == b""


@pytest.mark.parametrize("line", COMMANDS)
def test_command_when_json_is_asked_for_then_one_document_and_nothing_else(world: World, line: str) -> None:
    done = run_with(world, [*world.words(line), "--json"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert isinstance(json.loads(done.stdout), dict)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        *((line, 0) for line in IMITATED),
        *((line, 0) for line in COMMANDS if not line.startswith("hold")),
        *[("run no.such.function", 2), ("manifest no-such-file", 1), ("no-such-command", 2)],
    ],
)
def test_command_when_standard_error_is_closed_then_it_ends_as_without_it(
    world: World, line: str, status: int
) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" 2>&-', KTASK, *world.words(line)],
        env=environment(world.socket),
        stdout=subprocess.PIPE,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == status
    assert b"ktask: " not in done.stdout
