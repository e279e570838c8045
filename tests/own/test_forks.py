"""A program that forks while it is connected sees nothing of gRPC on its terminal."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.real_daemon import Daemon

PATIENCE_S = 60

_CODE = """
import os, sys, ktask
with ktask.Executor(1, target=sys.argv[1]) as executor:
    begun, go_on = os.pipe(), os.pipe()
    paths = [f"/proc/{os.getpid()}/fd/{fd}" for fd in (begun[1], go_on[0])]
    def call():
        with open(paths[0], "wb", 0) as begun, open(paths[1], "rb", 0) as go_on:
            begun.write(b"x")
            go_on.read(1)
    running = executor.submit(call)
    os.read(begun[0], 1)
    # A thread of ktask is now inside of gRPC, waiting for the end of the job.
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            with ktask.connect(sys.argv[1]) as client:
                print(client.status().pid > 0, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
    os.write(go_on[1], b"x")
    running.result()
print(os.environ.get("GRPC_VERBOSITY"))
"""


def test_fork_when_a_call_is_running_then_nothing_on_the_terminal_and_children_can_connect(
    daemon: Daemon,
) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(daemon.place)],
        check=False,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["True"] * 3 + ["None"]
