"""Machines and jobs as `ktask top` may show them; made up, always the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ktask.cli.top.model import Message, Size, State, reduce
from ktask.results import CpuUsage, Job, JobError, JobSpec, JobState, Owner, Progress, Reason, SourceName
from ktask.status import Allowance, CpuUse, Node, NodeAllowance, Present, Reading, Status

NOW = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
GIB = 1 << 30
USERS = {1000: "anna", 1001: "ben", 33: "www-data"}

WAITS = Reason("WORKERS_BUSY", "all workers that may run it are taken", "", "", NOW)
BATTERY = Reason("ON_BATTERY", "the machine runs on battery", "battery, 61 %", "external power", NOW)
PRESSURE = Reason("CPU_PRESSURE", "other programs wait for CPUs", "14.2 % of the time", "above 10 %", NOW)


def job(
    number: int,
    function: str,
    name: str,
    state: JobState = JobState.RUNNING,
    *,
    done: float = 0.0,
    total: int = 8 * GIB,
    leads: int = 0,
    helpers: int = 0,
    uid: int = 1000,
    command: str = "",
    reasons: tuple[Reason, ...] = (),
    error: JobError | None = None,
    items: int = 1,
) -> Job:
    files = tuple(SourceName(handle=f"h{i}", name=name if not i else f"{name}.{i}") for i in range(items))
    positions = round(done * total)
    return Job(
        id=f"{number:x}c0ffee5".ljust(32, "0"),
        spec=JobSpec(function, {}, {}, files, (), 0, 0, None, {}, ""),
        state=state,
        progress=Progress(positions, total, positions, total, 0, 0, helpers, leads),
        result=None,
        error=error,
        waiting_reasons=reasons,
        create_time=NOW + timedelta(seconds=number),
        start_time=None if state is JobState.QUEUED else NOW + timedelta(seconds=number),
        end_time=NOW + timedelta(seconds=number + 20) if state.ended else None,
        cpu=CpuUsage(0, 0, 0, 0, 0),
        owner=Owner(uid, uid, 4000 + number),
        detached=False,
        plan=None,
        sequence=1,
        command=command,
    )


def jobs(step: int) -> tuple[Job, ...]:
    """The jobs of a busy machine, at one of the messages."""
    return (
        job(
            10,
            "file.sha256",
            "/srv/backup/2026-11/monthly.tar",
            done=0.40 + 0.0035 * step,
            total=96 * GIB,
            leads=1,
            helpers=9,
            command="/usr/bin/python3 /usr/bin/ktask sum -c /srv/backup/2026-11/SHA256SUMS",
            items=12,
        ),
        job(
            11,
            "file.compress",
            "/home/ben/logs/access.log",
            done=0.31 + 0.0095 * step,
            total=14 * GIB,
            leads=1,
            helpers=4,
            uid=1001,
            command="ktask compress -19 /home/ben/logs/access.log",
        ),
        job(
            12,
            "text.search",
            "/var/www/corpus/\x1b[31mnews\n.txt",
            done=0.05 + 0.012 * step,
            total=3 * GIB,
            leads=1,
            uid=33,
            command="ktask search 'a b' /var/www/corpus",
            reasons=(Reason("CLIENT_LIMIT", "its lead goes at the pace of its caller", "0.5 CPUs", "", NOW),),
        ),
        job(
            13,
            "file.blake3",
            "photos/harbour at night.raw",
            JobState.QUEUED,
            reasons=(WAITS,),
            command="python3 digest.py",
        ),
        job(14, "mem.fill", "", JobState.SUCCEEDED, done=1.0, total=GIB, command="numbers"),
        job(
            15,
            "file.copy",
            "/mnt/old/disk.img",
            JobState.FAILED,
            done=0.31,
            uid=1001,
            command="ktask run file.copy src=/mnt/old/disk.img dst=disk.img",
            error=JobError("IO_ERROR", 'source "src": Input/output error', None, -1, 5, "", 0, (), ()),
        ),
    )


def readings(step: int, *, battery: int | None = None) -> tuple[Reading, ...]:
    cpu = (0.4, 1.1, 2.0, 6.5, 14.2, 9.0, 5.5, 3.1, 12.0, 14.2)[step % 10]
    return (
        Reading("power", "battery" if battery else "not on battery", "/sys"),
        Reading("battery", f"{battery} %" if battery else "no signal", "/sys"),
        Reading("power profile", "balanced" if battery else "no signal", "/sys"),
        Reading("temperature", f"nominal, {61 + step % 7} °C, trip point at 95 °C", "/sys"),
        Reading("cpu pressure", f"{cpu:.1f} % of the time", "/proc"),
        Reading("io pressure", f"{(step * 7) % 23:.1f} % of the time", "/proc"),
        Reading("memory pressure", "0.0 % of the time", "/proc"),
        Reading("own cpu limit", "none", "/sys"),
    )


def status(
    nodes: int,
    cpus: int,
    step: int,
    *,
    mode: str = "AUTO",
    level: str = "RUN",
    reasons: tuple[Reason, ...] = (),
    battery: int | None = None,
    helpers: int | None = None,
) -> Status:
    may = cpus if helpers is None else helpers
    allowed = tuple(NodeAllowance(nid, may, min(may, cpus // 2)) for nid in range(nodes))
    return Status(
        version="0.5.0",
        pid=812,
        start_time=NOW,
        mode=mode,
        draining=False,
        nodes=tuple(Node(nid, f"{nid * cpus}-{nid * cpus + cpus - 1}", 64 * GIB) for nid in range(nodes)),
        cpulist=f"0-{nodes * cpus - 1}",
        pools=(),
        allowance=Allowance(allowed, 4, 2, reasons, level),
        limits={},
        counters={},
        missing=(),
        runtime_dir="/run/ktaskd",
        selftest=False,
        readings=readings(step, battery=battery),
    )


def use(cpus: int, step: int, *, helpers: bool = True, together: int = 1) -> tuple[CpuUse, ...]:
    """Helpers, leads, others and idle CPUs, in a pattern."""
    return tuple(_use(cpu, (cpu // together * 7 + step // 7) % 10, helpers=helpers) for cpu in range(cpus))


def _use(cpu: int, kind: int, *, helpers: bool) -> CpuUse:
    if kind < 5:
        return CpuUse(cpu, 0.93 if helpers else 0.0, 0.0, 0.05)
    if kind == 5:
        return CpuUse(cpu, 0.0, 0.9, 0.08)
    return CpuUse(cpu, 0.1 if helpers else 0.0, 0.0, 0.8) if kind < 8 else CpuUse(cpu, 0.0, 0.0, 0.02)


def busy(step: int = 0) -> Present:
    return Present(status(2, 16, step), jobs(step), 0, use(32, step))


def on_battery(step: int = 0) -> Present:
    waiting = tuple(
        job(
            20 + i,
            one.function,
            "report.csv",
            JobState.RUNNING,
            done=0.2 + 0.004 * step,
            leads=1,
            reasons=(BATTERY,),
        )
        for i, one in enumerate(jobs(step)[:2])
    )
    found = status(1, 8, step, level="LEADS_ONLY", reasons=(BATTERY, PRESSURE), battery=61, helpers=0)
    return Present(found, waiting, 0, use(8, step, helpers=False))


def paused(step: int = 0) -> Present:
    reason = Reason("MODE_PAUSED", "somebody has set the mode paused", "paused", "", NOW)
    found = status(1, 8, step, mode="PAUSED", level="PAUSED", reasons=(reason,), helpers=0)
    return Present(found, jobs(step)[3:4], 0, use(8, step, helpers=False))


def large(step: int = 0) -> Present:
    return Present(status(8, 256, step), jobs(step), 4711, use(2048, step, together=24))


def shown(scene: object, columns: int, rows: int, *, steps: int = 60, selected: int = 0) -> State:
    """The state after these messages of a scene, a second apart."""
    state = State(Size(columns, rows))
    for message in messages(scene, steps):
        state, _ = reduce(state, message)
    return replace(state, selected=state.jobs[selected].id if state.jobs else "")


def messages(scene: object, steps: int) -> Iterator[Message]:
    assert callable(scene)
    for step in range(steps):
        yield Message(scene(step), float(step), USERS)
