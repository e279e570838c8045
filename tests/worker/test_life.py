"""A worker process begins and ends as it should."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.worker import frames
from tests.worker.realworker import REPOSITORY, RealWorker, started, wait_until


def test_worker_when_the_daemon_closes_then_it_ends(worker: RealWorker) -> None:
    worker.sock.close()
    assert worker.process.wait() == 0


def test_worker_when_the_daemon_closes_during_a_chunk_then_it_ends(worker: RealWorker) -> None:
    worker.job(1, "selftest.spin", {"ms": 1.0})
    worker.chunk(1, 1, 0, 1_000_000)
    wait_until(lambda: worker.position > 0)
    worker.sock.close()
    worker.recall(1)
    assert worker.process.wait() == 0


def test_worker_when_the_frame_is_none_then_it_ends_with_70(worker: RealWorker) -> None:
    worker.sock.send(b"\x63nonsense")
    assert worker.process.wait() == 70


def test_worker_when_interrupted_then_it_goes_on(worker: RealWorker) -> None:
    worker.process.send_signal(signal.SIGINT)
    worker.job(1, "selftest.noop")
    worker.chunk(1, 1, 0, 1)
    assert worker.done().reached == 1
    worker.process.terminate()
    assert worker.process.wait() == -signal.SIGTERM


def test_worker_when_its_parent_is_killed_then_it_dies() -> None:
    """A parent between us and the worker, as the pool host is."""
    code = (
        "import mmap, os, socket, sys, signal\n"
        "from ktaskd.model.worker import Placement, WorkerClass\n"
        "from ktaskd.worker import life\n"
        "sock = socket.socket(fileno=int(sys.argv[1]))\n"
        "if os.fork() == 0:\n"
        "    life.run(sock, memoryview(mmap.mmap(-1, 4096)), Placement(WorkerClass.HELPER))\n"
        "sock.close()\n"
        "signal.pause()\n"
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    with ours:
        with theirs:
            parent = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=REPOSITORY
            )
        assert ours.recv(FRAME_BYTES_MAX)[0] == frames.READY
        parent.kill()
        parent.wait()
        assert ours.recv(FRAME_BYTES_MAX) == b""


def test_modules_when_all_bodies_are_loaded_then_no_grpc_and_no_asyncio() -> None:
    code = (
        "import sys\n"
        "from ktaskd.functions import bodies\n"
        "from ktaskd.worker import life\n"
        "bodies.load_all()\n"
        "wrong = {'grpc', 'asyncio', 'google', 'ktask.link.session'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {wrong}' if wrong else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_ready_when_setup_is_done_then_it_comes_first() -> None:
    with started({"worker_class": "helper"}) as worker:
        assert worker.note(frames.READY).number == 0
