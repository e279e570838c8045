"""The life of the services, and their removal."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import ktask as library

from .kit import HELPERS, RUN, check, client, detached, ktask, prop, require, run, status, until, workers

MEMORY = 64 << 20
NOOP = ("run", "selftest.noop")


def _journal(*fields: str) -> list[dict[str, Any]]:
    printed = run("journalctl", "-o", "json", "--no-pager", *fields)
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


@check
def journal_when_a_job_ends_then_its_fields_are_there() -> str:
    """The fields job, uid, node and reason can be queried."""
    job = ktask("run", "selftest.fail", "--arg", "at=1", "--range", "0:3", ok=False)

    def ended() -> list[dict[str, Any]]:
        entries = _journal(f"KTASKD_JOB={job['id']}")
        return [entry for entry in entries if entry.get("KTASKD_EVENT") == "job_ended"]

    (entry,) = until("the entry", ended)
    got = {name: entry.get(f"KTASKD_{name}") for name in ("EVENT", "UID", "NID", "REASON", "STATE")}
    require(got["EVENT"] == "job_ended" and got["REASON"] == "FUNCTION_ERROR" and got["UID"] == "0", f"{got}")
    require(got["NID"] in {"0", "1"} and entry["_SYSTEMD_UNIT"] == "ktaskd.service", f"{entry}")
    return ", ".join(f"{name}={value}" for name, value in got.items())


@check
def reload_when_asked_then_the_configuration_is_read_again() -> str:
    """The service sends RELOADING and READY, and applies settings that need no restart."""
    config = Path("/etc/ktaskd/ktaskd.toml")
    text = config.read_text()
    try:
        config.write_text(text.replace("keep_s = 600.0", "keep_s = 300.0"))
        pid = prop("ktaskd.service", "MainPID")
        run("systemctl", "reload", "ktaskd.service")
        require(prop("ktaskd.service", "MainPID") == pid, "it was restarted")
        limits = {limit["name"]: limit["value"] for limit in status()["limits"]}
        require(str(limits["jobs_keep_seconds"]) == "300", f"{limits}")
    finally:
        config.write_text(text)
        run("systemctl", "reload", "ktaskd.service")
    return f"keep_s followed; status: {prop('ktaskd.service', 'StatusText')}"


@check
def hundred_jobs_when_ended_then_nothing_more_is_there() -> str:
    """No process, descriptor or handle is left."""
    ktask(*NOOP)
    until("idle", lambda: not int(_counts().get("keepers", 0)))
    before = _footprint()
    code = (
        "import ktask\n"
        "with ktask.connect('/run/ktaskd/ktaskd.sock') as client, ktask.memory(1 << 20) as memory:\n"
        "    for i in range(100): client.run('mem.fill' if i % 2 else 'file.crc32', data=memory)\n"
    )
    run("/usr/lib/ktaskd/bin/python", "-c", code, timeout=300.0)
    until(f"as before ({before})", lambda: _footprint() == before)
    return ", ".join(f"{count} {name}" for name, count in before.items())


def _counts() -> dict[str, Any]:
    return {counter["name"]: counter.get("value", 0) for counter in status().get("counters", ())}


def _footprint() -> dict[str, int]:
    pids = [pid for unit in ("system.slice/ktaskd.service", "ktaskd.slice") for pid in _pids(unit)]
    fds = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
    counts = _counts()
    return {"processes": len(pids), "descriptors": fds, "handles": int(counts.get("handles", 0))}


def _pids(group: str) -> list[int]:
    files = Path("/sys/fs/cgroup", group).rglob("cgroup.procs")
    return [int(pid) for file in files for pid in file.read_text().split()]


@check
def daemon_when_stopped_by_sigstop_then_the_watchdog_restarts_it() -> str:
    """The helpers' service goes on."""
    pid, restarts = int(prop("ktaskd.service", "MainPID")), int(prop("ktaskd.service", "NRestarts"))
    hosts = prop("ktaskd-helpers.service", "MainPID")
    os.kill(pid, 19)
    until("a restart", lambda: int(prop("ktaskd.service", "NRestarts")) > restarts)
    until("it runs", lambda: prop("ktaskd.service", "ActiveState") == "active")
    require(int(prop("ktaskd.service", "MainPID")) != pid, "the same process")
    require(prop("ktaskd-helpers.service", "MainPID") == hosts, "the helpers' service was restarted as well")
    ktask(*NOOP)
    return f"restarts {prop('ktaskd.service', 'NRestarts')}"


@check
def helpers_service_when_killed_then_it_comes_back_and_jobs_go_on() -> str:
    """The daemon goes on and loses only chunks."""
    daemon = prop("ktaskd.service", "MainPID")
    with detached(5.0) as job:
        until("busy helpers", lambda: any(worker.get("jobId") for worker in workers()))
        old = {worker["pid"] for worker in workers()}
        os.kill(int(prop("ktaskd-helpers.service", "MainPID")), 9)
        until(
            "new busy helpers",
            lambda: any(worker.get("jobId") and worker["pid"] not in old for worker in workers()),
        )
        require(ktask("show", job)["state"] == "JOB_STATE_RUNNING", "the job does not run")
    require(prop("ktaskd.service", "MainPID") == daemon, "the daemon was restarted as well")
    gone = [pid for pid in old if Path(f"/proc/{pid}").exists()]
    require(not gone, f"old helpers are left: {gone}")
    until("methods to raise a helper", lambda: "out of the idle cgroup" in status().get("raising", ()))
    return "came back, the job ran on"


@check
def native_function_when_declared_then_the_services_run_it() -> str:
    """Workers of both units, whose system calls are filtered, load the library."""
    directory = Path("/etc/ktaskd/functions.d")
    manifest = directory / "clear.toml"
    code = Path("/srv/clear_page.so")
    code.write_bytes(Path("/vm/clear_page.so").read_bytes())
    code.chmod(0o755)
    lines = ('name = "vm.clear"', f'library = "{code}"', 'symbol = "clear_page"', "min_chunk = 1048576")
    manifest.write_text("\n".join([*lines, "[[source]]", 'role = "data"', 'access = "rw"', ""]))
    run("systemctl", "restart", "ktaskd")
    try:
        with client() as one, library.memory(MEMORY) as memory:
            memory[:] = b"x" * len(memory)
            one.run("vm.clear", data=memory)
            require(memory[:] == bytes(len(memory)), "not all of it was cleared")
    finally:
        manifest.unlink()
        run("systemctl", "restart", "ktaskd")
    return f"{MEMORY >> 20} MiB cleared"


@check
def stop_when_jobs_run_then_undone_and_the_sockets_stay() -> str:
    """Running jobs are cancelled and undone, and the next client starts everything again."""
    words = ["selftest.undo_log", "--memory", "data=4000", "--arg", "delay_ms=20"]
    with subprocess.Popen(["ktask", "--json", "run", *words], stdout=subprocess.PIPE, text=True) as process:
        until("a busy worker", lambda: any(worker.get("jobId") for worker in [*workers(), *workers("LEAD")]))
        run("systemctl", "stop", "ktaskd.service")
        printed, _ = process.communicate(timeout=90)
    require(prop("ktaskd.service", "Result") == "success", f"result {prop('ktaskd.service', 'Result')}")
    require("JOB_STATE_CANCELLED" in printed, f"the client got: {printed!r}")
    require((RUN / "ktaskd.sock").exists() and prop("ktaskd.socket", "ActiveState") == "active", "no socket")
    left = _pids("system.slice/ktaskd.service")
    require(not left, f"processes are left: {left}")
    until("no worker is left", lambda: len(_pids("ktaskd.slice")) <= 1)
    ktask(*NOOP)
    require(prop("ktaskd.service", "ActiveState") == "active", "a client did not start it again")
    return f"stopped and undone, then started by a client; {HELPERS.name} stayed"


@check
def uninstall_when_purged_then_nothing_is_left() -> str:
    """No unit, socket, file, user or process is left."""
    for name in ("test.conf", "zz-host.conf"):
        Path(f"/etc/systemd/system/ktaskd.service.d/{name}").unlink(missing_ok=True)
    Path("/etc/systemd/system/ktaskd.service.d").rmdir()
    run("dpkg", "--purge", "ktaskd")
    aside = "\\( -path /vm -o -path /proc -o -path /sys -o -path /var/log \\) -prune"
    found = run("sh", "-c", f"find / -xdev {aside} -o -name '*ktask*' -print").splitlines()
    left = [line for line in found if "ktaskd-vm" not in line]
    require(not left, f"left: {left}")
    units = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "ktaskd*")
    require(all("ktaskd-vm" in line for line in units.splitlines()), units)
    for database in ("passwd", "group"):
        require(
            "ktask" not in run("getent", database).replace("ktaskd-vm", ""), f"{database} still has an entry"
        )
    return "no file, unit, user or process"
