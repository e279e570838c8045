"""A worker sets itself up, and reports its settings as the kernel has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ktaskd.host.cgroups.cpugroup import CpuGroups, gives_way_by, read_cpu_groups
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling import sched
from ktaskd.model.worker import Applied, Placement, WorkerClass
from ktaskd.worker import frames
from ktaskd.worker.codec import applied_from_json
from ktaskd.worker.setup import HELPER_OOM_SCORE, LEAD_OOM_SCORE, compare, compare_place
from tests.support.users import NOBODY
from tests.worker.realworker import REPOSITORY, started

CPU = min(os.sched_getaffinity(0))

GOOD_HELPER = Applied(frozenset({1}), "idle", 19, "idle", HELPER_OOM_SCORE, 19, "/", "prefer:0", 1000)
GOOD_LEAD = Applied(frozenset({1}), "normal", 0, "none", LEAD_OOM_SCORE, 0, "/", "prefer:0", 1000)


def test_helper_when_set_up_then_the_kernel_agrees() -> None:
    """Guards: I4"""
    placement = {"worker_class": "helper", "cpus": [CPU], "nid": 0}
    with started(placement, autogroup=19) as worker:
        applied = applied_from_json(worker.note(frames.READY).body)
        pid = worker.process.pid
        assert applied.cpus == os.sched_getaffinity(pid) == {CPU}
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        assert applied.policy == "idle"
        assert applied.nice == os.getpriority(os.PRIO_PROCESS, pid) == 19
        assert applied.ioprio == "idle"
        assert psutil.Process(pid).ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
        score = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
        assert applied.oom_score_adj == score >= HELPER_OOM_SCORE
        assert applied.uid == os.getuid()
        text = Path(f"/proc/{pid}/autogroup").read_text() if Path("/proc/self/autogroup").exists() else ""
        if applied.autogroup_nice is not None:
            assert text.endswith(" nice 19\n")
            assert applied.autogroup_nice == 19
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        place = read_cpu_groups(HostRoot(), str(pid))
        assert applied.gives_way_by == gives_way_by(place, applied.autogroup_nice, "idle")
        told = [text.partition(" ")[0] for text in applied.missing]
        assert ("giving" in told) == (not applied.gives_way_by)
        assert ("mempolicy" in told) == (applied.mempolicy != "prefer:0")
        assert {"new privileges", "core dumps"} <= set(applied.gave_up)
        assert ("network" in told) == ("network" not in applied.gave_up)
        assert ("other" in told) == ("other processes" not in applied.gave_up)
        assert set(told) <= {"giving", "mempolicy", "network", "other"}
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max core file size        0                    0" in limits


def test_lead_when_started_then_normal_in_a_session_of_its_own() -> None:
    with started({"worker_class": "lead"}) as worker:
        applied = applied_from_json(worker.note(frames.READY).body)
        pid = worker.process.pid
        assert os.getsid(pid) == pid
        assert os.sched_getscheduler(pid) == os.SCHED_OTHER
        assert applied.nice == os.getpriority(os.PRIO_PROCESS, pid)
        assert applied.autogroup_nice in (None, 0)
        assert applied.gives_way_by == ""
        assert applied.oom_score_adj >= LEAD_OOM_SCORE


def test_affinity_when_no_such_cpu_then_it_is_a_sentence() -> None:
    with started({"worker_class": "lead", "cpus": [1000]}) as worker:
        applied = applied_from_json(worker.note(frames.READY).body)
    assert applied.cpus == os.sched_getaffinity(0)
    (text,) = [text for text in applied.missing if text.startswith("affinity")]
    assert "1000" in text
    assert "cpuset" in text


def test_mempolicy_when_no_such_node_then_it_is_a_sentence() -> None:
    with started({"worker_class": "helper", "nid": 777}) as worker:
        applied = applied_from_json(worker.note(frames.READY).body)
    (text,) = [text for text in applied.missing if text.startswith("mempolicy")]
    assert "prefer:777" in text


@pytest.mark.other_uid
@pytest.mark.open_checkout  # this worker loads the body of the function itself, as that user
def test_user_when_given_then_the_worker_is_that_user_and_nobody_looks_inside() -> None:
    placement = {"worker_class": "helper", "uid": NOBODY, "gid": NOBODY}
    with started(placement) as worker:
        applied = applied_from_json(worker.note(frames.READY).body)
        pid = worker.process.pid
        assert applied.uid == NOBODY
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert f"Gid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert f"Groups:\t{NOBODY} \n" in status
        assert applied.oom_score_adj >= HELPER_OOM_SCORE
        # It is not dumpable: its /proc entries belong to root although the process does not.
        assert Path(f"/proc/{pid}/io").stat().st_uid == 0
        worker.job(1, "selftest.noop")
        worker.chunk(1, 1, 0, 1)
        assert worker.done().reached == 1


@pytest.mark.other_uid
def test_user_when_it_cannot_be_had_then_nothing_is_run() -> None:
    code = (
        "import mmap, os, socket\n"
        "from ktaskd.model.worker import Placement, WorkerClass\n"
        "from ktaskd.worker import life\n"
        f"os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "life.run(theirs, memoryview(mmap.mmap(-1, 4096)), Placement(WorkerClass.LEAD, uid=1234))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 71
    assert "PermissionError" in ended.stderr


def test_dumpable_when_many_users_share_the_workers_uid_then_not() -> None:
    code = (
        "from ktaskd.host.processes import process\n"
        "from ktaskd.model.worker import Placement, WorkerClass\n"
        "from ktaskd.worker import setup\n"
        "setup.apply(Placement(WorkerClass.LEAD))\n"
        "print(process.read_dumpable())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)
    assert ended.stdout.decode().strip() == str(os.geteuid() != 0)


GIVES_UP = """
import ctypes, errno, os, socket, sys
from ktaskd.host.libc import NUMBERS_OF, _LIBC
from ktaskd.model.worker import Placement, WorkerClass
from ktaskd.worker import setup
parent = os.getppid()
applied = setup.apply(Placement(WorkerClass.LEAD))

def tried(call):
    try:
        return call() or "done"
    except OSError as error:
        return errno.errorcode[error.errno]

def raw(name, *args):
    result = _LIBC.syscall(ctypes.c_long(NUMBERS_OF[os.uname().machine][name]), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)

print(*applied.gave_up, sep=", ")
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET):
    print(tried(lambda: socket.socket(family, socket.SOCK_DGRAM).close()))
print(tried(lambda: raw("io_uring_setup", 8, ctypes.create_string_buffer(256))))
print(tried(lambda: raw("ptrace", 16, parent, 0, 0)))
print(tried(lambda: raw("process_vm_readv", parent, 0, 0, 0, 0, 0)))
print(tried(lambda: raw("pidfd_getfd", os.pidfd_open(parent), 0, 0)))
print(tried(lambda: os.close(os.open(f"/proc/{parent}/mem", os.O_RDONLY))))
print(tried(lambda: os.close(os.open("/proc/self/mem", os.O_RDONLY))))
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ours.send(b"still there")
print(theirs.recv(99).decode())
"""


def test_setup_when_done_then_no_network_and_no_other_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", GIVES_UP], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    )
    given, *tried = ended.stdout.splitlines()
    if "network" in given:
        assert tried[:9] == ["EPERM"] * 9
    if "other processes" in given:
        assert tried[9] == "EACCES"
    assert tried[10:] == ["done", "still there"]


def test_compare_when_all_is_as_wanted_then_nothing_missing() -> None:
    assert compare(Placement(WorkerClass.HELPER, frozenset({1}), 0, 1000), GOOD_HELPER) == []
    assert compare(Placement(WorkerClass.LEAD, frozenset({1}), 0, 1000), GOOD_LEAD) == []


def test_compare_when_nothing_is_as_wanted_then_each_has_a_sentence() -> None:
    helper = compare(Placement(WorkerClass.HELPER, frozenset({2}), 1, 7), GOOD_LEAD)
    assert [text.split(":")[0] for text in helper] == [
        "affinity 2",
        "mempolicy prefer",
        "uid 7",
        "SCHED_IDLE",
        "nice 19",
        "ioprio idle",
        "oom_score_adj 800",
    ]
    worse = Applied(frozenset({1}), "idle", 19, "idle", 0, 19, "/", "", 0)
    lead = compare(Placement(WorkerClass.LEAD), worse)
    assert [text.split(":")[0] for text in lead] == [
        "SCHED_OTHER",
        "nice 0",
        "oom_score_adj 500",
        "autogroup nice 0",
    ]


def test_place_when_nothing_makes_a_helper_give_way_then_why() -> None:
    place = CpuGroups("/system.slice/a.service", "system.slice", (False, False))
    (text,) = compare_place(Placement(WorkerClass.HELPER), Applied(), place)
    assert text.startswith("giving way: its cgroup /system.slice/a.service")
    assert compare_place(Placement(WorkerClass.HELPER), Applied(gives_way_by="idle slice"), place) == []


def test_place_when_a_lead_is_in_the_slice_of_the_helpers_then_said() -> None:
    placement = Placement(WorkerClass.LEAD)
    (text,) = compare_place(placement, Applied(), CpuGroups("/ktaskd.slice/a", "ktaskd.slice", (True, False)))
    assert text.startswith("normal weight: it is in the idle cgroup /ktaskd.slice/a")
    assert compare_place(placement, Applied(), CpuGroups("/system.slice/a", "system.slice", (False,))) == []


def test_parse_when_autogroups_are_off_then_none() -> None:
    assert sched.parse_autogroup("/autogroup-9 nice -5\n") == -5
    assert sched.parse_autogroup("") is None
