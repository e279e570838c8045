"""How a worker process begins and ends.

Runs in a freshly forked process. The daemon is at the other end of the socket; when the daemon
closes it, the worker ends. A worker may be killed at any instruction: whatever the daemon must know
then is in the shared page or was sent before.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from ktaskd.host import faults, logline
from ktaskd.host.memory import barrier
from ktaskd.model.worker import Placement
from ktaskd.worker import frames, restart, setup
from ktaskd.worker.codec import applied_to_json
from ktaskd.worker.frames import pack_note
from ktaskd.worker.loop import Worker
from ktaskd.worker.restart import Board

EXIT_SETUP = 71
"""Exit status of a worker that could not set itself up. As EX_OSERR."""
EXIT_GROUP = 72
"""Exit status of a worker that could not enter its memory cgroup. As EX_OSFILE."""
EXIT_BROKEN = 70
"""Exit status of a worker that does not understand its daemon. As EX_SOFTWARE."""

LOG_NAME = "ktaskd.worker"


def run(
    sock: socket.socket,
    slot: memoryview,
    placement: Placement,
    *,
    parent: int = 0,
    missing: Sequence[str] = (),
    board: Board | None = None,
) -> NoReturn:
    """Be a worker until the daemon closes the socket. Never returns.

    Args:
        sock: this worker's end of a SOCK_SEQPACKET pair.
        slot: its page of the board, SLOT_BYTES long and writable.
        parent: pid of the pool host that forked it; 0 = the current parent.
        missing: settings that could not be applied before, in words.
        board: the same page for a worker that may have to restart; its descriptor stays open.
    """
    status = EXIT_SETUP
    try:
        faults.hit("worker.at_start")
        applied = setup.apply(placement, parent, missing)
        status = EXIT_BROKEN
        # The template's objects stay; a collection that looks through them would copy their pages.
        gc.freeze()
        sock.setblocking(True)
        confined = not placement.own_code
        words = slot.cast("Q")
        words[frames.SLOT_ORDERED] = barrier.register()
        worker = Worker(sock, words, placement.nid, confined=confined, board=board)
        worker.send(pack_note(frames.READY, 0, applied_to_json(applied)))
        worker.serve()
        status = 0
    except setup.GroupClosed as error:
        logline.report(LOG_NAME, f'group_closed error="{error}"')
        status = EXIT_GROUP
    except (BrokenPipeError, ConnectionResetError):
        # The daemon is gone; the pool host ends all of its workers.
        status = 0
    except BaseException as error:
        logline.report_exception(LOG_NAME, error)
    finally:
        os._exit(status)


def go_on(state: dict[str, Any]) -> NoReturn:
    """Continue as the worker that has just restarted. Never returns."""
    status = EXIT_BROKEN
    try:
        held = restart.resume(state)
        words = memoryview(held.board.page()).cast("Q")
        words[frames.SLOT_ORDERED] = barrier.register()  # exec has ended the registration
        worker = Worker(held.sock, words, held.nid, confined=False)
        worker.restore(held)
        worker.serve()
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
