"""Do everyday work on a private daemon, check every result a second time, and show what others keep.

Digests of many files, compression, a search and a checksum, each by one thread and by ktaskd; a web server
next to a job on all CPUs; then a job that fails half-way and is undone. The demo leaves nothing behind,
however it ends.

exit status: 0 all results were right, 1 one was wrong or a job failed, 130
interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import ktask
from ktask.cli.arguments import UsageError
from ktask.cli.arguments import size as parse_size
from ktask.cli.text import format_bytes

from tools import room, showcase
from tools.neighbour import show_neighbour
from tools.private import DaemonFailed, private_daemon, temporary_directory
from tools.undoing import show_undo

RIGHT, WRONG, INTERRUPTED = 0, 1, 130

_SIZE = 256 << 20
_SIZE_MIN = 1 << 20
_MARGIN = 256 << 20
"""Kept free for the daemon, its workers, and all other programs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status."""
    options = _parse(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        return _run(options.size)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Otherwise Python complains at its end, when it flushes the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG
    except (DaemonFailed, ktask.KtaskError, ktask.JobFailed, NoRoom, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return WRONG


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=_SIZE,
        metavar="SIZE",
        help="size of the text to work on, for example 64M (default: 256M)",
    )
    return parser.parse_args(argv)


def _size(text: str) -> int:
    try:
        value = parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if value < _SIZE_MIN:
        raise argparse.ArgumentTypeError(f'got "{text}", wanted at least {format_bytes(_SIZE_MIN)}')
    return value


def _end(number: int, _: FrameType | None) -> None:
    """Clean up on a signal whose default is to end the process at once."""
    raise SystemExit(128 + number)


class NoRoom(Exception):
    """There is too little disk space or memory for any demo."""


def _run(wanted: int) -> int:
    with temporary_directory("ktaskd-demo-") as directory:
        size = fitting(wanted, directory)
        with private_daemon(directory) as runtime, ktask.connect(runtime) as client:
            right = showcase.show_functions(client, directory, size)
            show_neighbour(client)
            right = show_undo(client) and right
    print("\nall results were right" if right else "\nSOMETHING WAS WRONG")
    return RIGHT if right else WRONG


def fitting(wanted: int, directory: Path) -> int:
    """The size, halved until it fits; a smaller one is reported.

    Raises:
        NoRoom: not even the smallest size fits.
    """
    disk, memory = room.free_disk(directory), room.free_memory()
    # A text, its pieces, and a compressed copy; files may be on a tmpfs.
    disk_left = min(disk, memory) if room.is_memory(directory) else disk
    left = max(0, min(disk_left - _MARGIN, memory - _MARGIN))
    size = wanted
    while 3 * size > left and size > _SIZE_MIN:
        size = max(_SIZE_MIN, size // 2)
    room_text = f"{directory.parent} has {format_bytes(disk)} free, memory {format_bytes(memory)}"
    if 3 * size > left:
        raise NoRoom(f"{room_text}: too little, the demo needs {format_bytes(3 * size + _MARGIN)} of each")
    if size < wanted:
        print(
            f"With {format_bytes(size)} instead of {format_bytes(wanted)}: {room_text}, "
            f"that needs {format_bytes(3 * wanted + _MARGIN)} of each."
        )
    return size


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each row is shown as soon as it is complete
    sys.exit(main())
