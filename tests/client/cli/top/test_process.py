"""`ktask top` as a process on a terminal, with a real daemon and with a fake one.

Tests: client/ktask/cli/top/application.py, client/ktask/cli/top/terminal.py, client/ktask/cli/verbs/top.py
"""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import ktask
import pytest
from ktask.cli.top.application import _refused
from ktask.cli.top.model import Cancel, SetMode
from ktask.errors import KtaskError
from ktask.v1 import control_pb2

from tests.client.cli.top.pty_view import View, showing
from tests.client.command import ktask_command
from tests.client.fake import FakeDaemon

pytestmark = pytest.mark.slow


@pytest.fixture
def client(real: Path) -> Iterator[ktask.Client]:
    with ktask.connect(real) as connected:
        yield connected


def in_raw_modes(view: View) -> bool:
    return not view.modes()[3] & termios.ICANON


def test_top_when_a_job_is_cancelled_by_key_then_it_is_and_the_terminal_is_as_before(
    real: Path, client: ktask.Client
) -> None:
    job = client.submit("selftest.spin", ranges=[(0, 100_000_000)], arg={"ms": 1})
    with showing(real) as view:
        before = view.modes()
        view.shows("selftest.spin")
        assert in_raw_modes(view)
        view.shows("helpers")
        view.press("s")
        view.shows("sorted by rate")
        view.press("e")
        view.shows("time line, from its acceptance on")
        view.press("x")
        view.shows(f">{job.id[:8]}")
        view.press("c")
        view.shows(f"cancel job {job.id[:8]}?")
        view.press("y")
        view.shows("cancelled")
        assert [*client.watch(job.id)][-1].job.state == "CANCELLED"
        view.press("h")
        view.shows("L+H                leads and helpers")
        view.press("q")
        assert view.wait() == 0
        assert view.modes() == before
        assert view.output.endswith("\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_top_when_a_signal_ends_it_then_the_terminal_is_as_before(
    fake: FakeDaemon, number: signal.Signals, status: int
) -> None:
    with showing(fake.directory) as view:
        before = view.modes()
        view.shows("ktaskd")
        view.process.send_signal(number)
        assert view.wait() == status
        assert view.modes() == before
        assert "\x1b[?1049l" in view.output


def test_top_when_suspended_then_the_terminal_is_free_until_it_goes_on(fake: FakeDaemon) -> None:
    with showing(fake.directory) as view:
        before = view.modes()
        view.shows("ktaskd")
        view.process.send_signal(signal.SIGTSTP)
        assert os.WIFSTOPPED(os.waitpid(view.process.pid, os.WUNTRACED)[1])
        assert view.modes() == before
        view.process.send_signal(signal.SIGCONT)
        view.until(lambda: in_raw_modes(view), "it has the terminal again")
        view.press("h")
        view.shows("this help")
        view.press("q")
        assert view.wait() == 0


def test_top_when_resized_then_as_wide_as_the_terminal(fake: FakeDaemon) -> None:
    with showing(fake.directory, columns=80, rows=24) as view:
        view.shows("ktaskd")
        assert len(view.frame()) == 24
        view.resize(150, 40)
        view.shows("COMMAND")
        assert len(view.frame()) == 40
        view.resize(30, 5)
        view.shows("too small")


def test_top_when_the_daemon_ends_and_comes_back_then_it_says_so_and_goes_on(short_dir: Path) -> None:
    with FakeDaemon(short_dir) as daemon, showing(short_dir) as view:
        view.shows("ktaskd")
        daemon.stop()
        view.shows("no connection, trying again")
        for path in short_dir.iterdir():
            path.unlink()
        with FakeDaemon(short_dir):
            view.until(lambda: not any("no connection" in line for line in view.frame()), "it goes on")
            view.press("q")
            assert view.wait() == 0


def test_top_when_colours_are_off_then_none_is_written(fake: FakeDaemon) -> None:
    with showing(fake.directory, environ={"NO_COLOR": "1"}) as view:
        view.shows("ktaskd")
        assert "\x1b[3" not in view.output
        assert "\x1b[1m" in view.output


def test_top_when_the_terminal_knows_only_ascii_then_nothing_else_is_written(fake: FakeDaemon) -> None:
    with showing(
        fake.directory, environ={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ) as view:
        view.shows("ktaskd")
        assert view.output.isascii()


def test_top_when_there_is_no_terminal_then_what_to_use_instead(fake: FakeDaemon) -> None:
    status, out, err = ktask_command("--socket", str(fake.directory), "top")
    assert (status, out) == (2, "")
    assert err.startswith("ktask: top: standard output: is not a terminal; use `ktask status`")


def test_top_when_the_terminal_is_dumb_then_what_to_use_instead(fake: FakeDaemon) -> None:
    with showing(fake.directory, environ={"TERM": "dumb"}) as view:
        assert view.wait() == 2
        assert "use `ktask status`" in view.output


def test_top_when_rich_is_missing_then_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, fake: FakeDaemon
) -> None:
    from ktask.cli.arguments import UsageError
    from ktask.cli.verbs import top

    for name in [name for name in sys.modules if name.partition(".")[0] == "rich" or "cli.top" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(UsageError, match="apt install python3-rich"):
        top._load()


def test_top_when_no_daemon_answers_then_as_other_commands(nowhere: Path) -> None:
    with showing("/nonexistent", environ={"KTASKD_SOCKET": "/nonexistent"}) as view:
        assert view.wait() == 3
        assert "\x1b[?1049h" not in view.output


def test_pause_when_the_user_may_not_then_said_in_words() -> None:
    error = KtaskError("uid 7 may not set the mode", code="PERMISSION_DENIED")
    assert _refused(SetMode("paused"), error) == "not allowed: uid 7 may not set the mode"
    assert _refused(Cancel("a"), KtaskError("no such job", code="NOT_FOUND")) == "no such job"


def test_pause_when_the_key_is_pressed_then_the_mode_is_set(fake: FakeDaemon) -> None:
    with showing(fake.directory) as view:
        view.shows("ktaskd")
        view.press("p")
        view.shows("mode: paused")
        assert [request.mode for request in fake.modes] == [control_pb2.MODE_PAUSED]
        view.press("q")
        assert view.wait() == 0
