"""The terminal: its modes, its size, and the signals that concern it."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.text import Text

from ktask.cli.top.model import Size

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[0m\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE = "\x1b[H", "\x1b[K"


class Terminal:
    """A whole screen, from `with` on; afterwards the terminal is as it was, however the block ends."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self._in, self._out = sys.stdin.fileno(), sys.stdout
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waking = threading.Lock()
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._modes: list[Any] | None = None
        self._stop = False
        self.plain = not (sys.stdout.encoding or "").lower().startswith("utf")
        self._console = Console(
            file=io.StringIO(), force_terminal=True, highlight=False, markup=False, emoji=False,
            no_color=bool(os.environ.get("NO_COLOR")),
        )  # fmt: skip

    def __enter__(self) -> Terminal:
        """Take the screen, and have signals wake `wait`."""
        for number, handler in ((signal.SIGWINCH, _ignore), (signal.SIGTSTP, self._on_stop)):
            self._before[number] = signal.signal(number, handler)
        self._wakeup_before = signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the screen back."""
        self._leave()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        with self._waking:
            os.close(self._wake_in)
            os.close(self._wake_out)
            self._wake_out = -1

    def _enter(self) -> None:
        self._modes = termios.tcgetattr(self._in)
        tty.setcbreak(self._in, termios.TCSANOW)
        self._write(_ENTER)

    def _leave(self) -> None:
        # A terminal that is gone needs nothing.
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        if self._modes is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._in, termios.TCSANOW, self._modes)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _suspend(self) -> None:
        """Give the screen back while the shell has stopped this process, and take it again."""
        self._stop = False
        self._leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_stop)
        self._enter()

    def size(self) -> Size:
        """The size now."""
        found = os.get_terminal_size(self._out.fileno())
        return Size(found.columns or 80, found.lines or 24)

    def wake(self) -> None:
        """Have `wait` return; to be called from any thread."""
        # The pipe may be full, which wakes as well, or closed by now.
        with self._waking, contextlib.suppress(OSError):
            os.write(self._wake_out, b"\0")

    def wait(self) -> bytes | None:
        """Wait for keys, a signal or `wake`; return the bytes of keys, None if the terminal is gone."""
        ready, _, _ = select.select([self._in, self._wake_in], [], [])
        if self._wake_in in ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake_in, 4096):
                    pass
        if self._stop:
            self._suspend()
            return b""
        if self._in not in ready:
            return b""
        try:
            return os.read(self._in, 1024) or None
        except OSError:
            return None

    def draw(self, lines: Sequence[Text]) -> None:
        """Draw a frame over the one before."""
        self._write(_HOME + "\r\n".join(self._rendered(lines)))

    def _rendered(self, lines: Sequence[Text]) -> Iterator[str]:
        for line in lines:
            # The rest is erased first: in the last column it would erase the sign there.
            yield "\x1b[0m" + _REST_OF_LINE + rendered(self._console, line)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def rendered(console: Console, line: Text) -> str:
    """A line with the escape sequences of its styles."""
    with console.capture() as captured:
        console.print(line, end="", soft_wrap=True)
    return captured.get()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Wake up, and nothing else."""
