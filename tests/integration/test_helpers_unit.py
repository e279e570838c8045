"""A daemon without rights, and its helpers in a unit of their own, as under systemd.

The two cgroups are real ones if this machine has cgroup v1's CPU controller.
The virtual machine tests systemd, the slices and cgroup v2.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.integration.test_priority import helpers, run_spin, status, workers
from tests.support.cgroups import cgroup, legacy_mount
from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    alive,
    connected,
    handed_over,
    memory,
    spec,
    starting,
    state_name,
    until,
    write_config,
)
from tests.support.units import listening, start_unit
from tests.support.users import NOBODY, OtherUsers

pytestmark = pytest.mark.other_uid

GROUP, POLICY = "out of the idle cgroup", "SCHED_OTHER and nice 0"


@dataclass
class Machine:
    """Runs both units.

    Args:
        own: cgroups of the daemon, idle: of the helpers; the CPU's first, none if none can be made.
    """

    place: Path
    config: Path
    start: Callable[..., subprocess.Popen[bytes]]
    program: Path
    own: Sequence[Path]
    idle: Sequence[Path]
    sock: socket.socket
    helpers: subprocess.Popen[bytes] | None = None

    def start_helpers(self) -> None:
        words = [self.program, "--pool-hosts"]
        with (self.place / "helpers.log").open("ab") as log:
            self.helpers = self.start(words, listener=self.sock, groups=self.idle, cgroup_fd=True, stderr=log)

    def end_helpers(self, number: signal.Signals = signal.SIGTERM) -> int:
        process, self.helpers = self.helpers, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(PATIENCE_S)

    @contextmanager
    def daemon(self) -> Iterator[tuple[Daemon, Stubs]]:
        def popen(words: list[Any], *, stderr: Any, **_: Any) -> subprocess.Popen[bytes]:
            return self.start(words, groups=self.own, cgroup_fd=True, stderr=stderr)

        place = self.place / "run"
        with starting(place, "--config", self.config, program=self.program, popen=popen) as daemon:
            daemon.wait_ready()
            with connected(daemon.socket) as stubs:
                yield daemon, stubs
            if daemon.process.poll() is None:
                assert daemon.stop() == 0, daemon.log()


@contextmanager
def units(run_as: OtherUsers) -> Iterator[Machine]:
    """Both units, of which only the helpers' runs yet."""
    place = run_as.home(NOBODY)
    sock_path = place / "helpers.sock"
    with contextlib.ExitStack() as stack:
        own: list[Path] = []
        idle: list[Path] = []
        mount = legacy_mount("cpu")
        if mount is not None and (mount / "cpu.idle").exists():
            own.append(stack.enter_context(cgroup(mount)))
            idle.append(stack.enter_context(cgroup(mount, {"cpu.idle": "1"})))
        config = write_config(
            place / "ktaskd.toml",
            sockets={"mode": "0666"},
            workers={"helpers_socket": str(sock_path)},
        )
        config.chmod(0o644)
        env = run_as._options(NOBODY, {})["env"]

        def start(words: Sequence[Any], **options: Any) -> subprocess.Popen[bytes]:
            return start_unit(words, uid=NOBODY, env=env, **options)

        program = run_as.program("ktaskd")
        sock = stack.enter_context(listening(sock_path, NOBODY))
        stack.callback(sock_path.unlink)
        machine = Machine(place, config, start, program, own, idle, sock)
        try:
            machine.start_helpers()
            yield machine
        finally:
            machine.end_helpers()


def run_fill(daemon: Daemon, stubs: Stubs) -> None:
    with memory(1 << 20) as fd, handed_over(daemon.handoff, fd) as (handle,):
        fill = spec("mem.fill", arg={"value": 7}, sources={"data": {"handle": handle}})
        job = stubs.jobs.Run(pb.RunRequest(spec=fill), timeout=PATIENCE_S).job
        assert state_name(job) == "SUCCEEDED", job
        assert os.pread(fd, 1 << 20, 0) == bytes([7]) * (1 << 20)


def wait_raising(stubs: Stubs) -> control_pb2.Status:
    until(lambda: bool(status(stubs).raising), "ways are found")
    return status(stubs)


def started(stubs: Stubs) -> list[control_pb2.Worker]:
    return [*helpers(stubs), *workers(stubs, control_pb2.WORKER_CLASS_LEAD)]


def no_host(machine: Machine) -> bool:
    assert machine.helpers is not None
    return not psutil.Process(machine.helpers.pid).children()


def test_daemon_when_without_rights_then_helpers_are_raised_through_doors_that_root_opened(
    run_as: OtherUsers,
) -> None:
    with units(run_as) as machine, machine.daemon() as (daemon, stubs):
        told = wait_raising(stubs)
        run_fill(daemon, stubs)
        until(lambda: all(one.uid for one in started(stubs)), "all have reported what they are")
        helper, lead = helpers(stubs)[0], workers(stubs, control_pb2.WORKER_CLASS_LEAD)[0]
        if machine.idle:
            # The limits of root may forbid LimitNICE=+0 in a container.
            limits = Path(f"/proc/{helper.pid}/limits").read_text()
            may = int(limits.partition("Max nice priority")[2].split()[0]) >= 20
            assert list(told.raising) == ([GROUP, POLICY] if may else [GROUP])
            assert helper.gives_way_by == "idle slice"
            assert helper.cgroup == f"/{machine.idle[0].name}"
            assert lead.cgroup == f"/{machine.own[0].name}"
            lacking = [text for text in told.missing if "raising" in text]
            assert len(lacking) == (not may), lacking
        assert helper.oom_score_adj == 800
        assert lead.oom_score_adj == 500
        assert not helper.missing
        assert not lead.missing
        # No process of this user can look into another, and only hosts and the daemon have a cgroup.procs.
        assert machine.helpers is not None
        server = psutil.Process(machine.helpers.pid)
        tree = [*daemon.tree(), server, *server.children(recursive=True)]
        assert helper.pid in [process.pid for process in tree]
        for process in tree:
            assert Path(f"/proc/{process.pid}/io").stat().st_uid == 0, process
        for pid in (helper.pid, lead.pid):
            links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
            assert not [link for link in links if "cgroup.procs" in link]


def test_helpers_when_their_unit_is_killed_then_back_and_raised_through_the_new_door(
    run_as: OtherUsers,
) -> None:
    with units(run_as) as machine, machine.daemon() as (daemon, stubs):
        wait_raising(stubs)
        assert machine.helpers is not None
        server = psutil.Process(machine.helpers.pid)
        before = [server, *server.children(recursive=True)]
        machine.end_helpers(signal.SIGKILL)
        until(lambda: not alive(before), "no helper is left")
        until(lambda: any("has not answered yet" in text for text in status(stubs).missing), "it is said")
        run_spin(stubs)  # by a lead
        if machine.idle:
            # Like systemd, remove the group and make it again under the same name.
            os.rmdir(machine.idle[0])
            machine.idle[0].mkdir()
            (machine.idle[0] / "cpu.idle").write_text("1")
        machine.start_helpers()
        until(lambda: any(helper.pid for helper in helpers(stubs)), "helpers are back")
        told = wait_raising(stubs)
        assert not any("pool host" in text for text in told.missing)
        assert (GROUP in told.raising) == bool(machine.idle)
        run_fill(daemon, stubs)


def test_daemon_when_started_again_then_the_helpers_unit_stays(run_as: OtherUsers) -> None:
    with units(run_as) as machine:
        for _ in range(2):
            with machine.daemon() as (daemon, stubs):
                wait_raising(stubs)
                run_fill(daemon, stubs)
                processes = [psutil.Process(helper.pid) for helper in helpers(stubs) if helper.pid]
                assert processes
            assert not alive(processes)
            assert machine.helpers is not None
            assert machine.helpers.poll() is None
            until(lambda: no_host(machine), "no host is left")
        with machine.daemon() as (daemon, stubs):
            wait_raising(stubs)
            processes = [psutil.Process(helper.pid) for helper in helpers(stubs) if helper.pid]
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            until(lambda: not alive(processes), "helpers of a killed daemon end")
            until(lambda: no_host(machine), "no host is left")
        with machine.daemon() as (_, stubs):
            wait_raising(stubs)
