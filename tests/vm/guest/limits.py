"""Limits of the client, and power."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from .kit import PATIENCE_S, check, detached, ktask, require, run, status, until, workers

MEMORY = 64 << 20
POPULATE = """
import ktask, json
with ktask.connect("/run/ktaskd/ktaskd.sock") as client, ktask.memory({size}) as memory:
    try:
        client.run("mem.populate", data=memory)
        print(json.dumps(["done"]))
    except ktask.KtaskError as error:
        print(json.dumps([error.code, error.reason, str(error)]))
    except ktask.JobFailed as error:
        print(json.dumps(["failed", error.job.error.reason, error.job.error.message]))
"""


def _as_client(properties: list[str], *words: str) -> str:
    """Run a program in a service with these limits and return its output."""
    options = [f"--property={text}" for text in properties]
    done = subprocess.run(
        ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", *options, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    require(done.returncode == 0, f"{words}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _threads(properties: list[str]) -> int:
    words = ["/usr/bin/ktask", "--json", "run", "selftest.spin", "--arg", "ms=1", "--range", "0:40@-1"]
    job: dict[str, Any] = json.loads(_as_client(properties, *words, "--max-threads", "4"))
    return int(job["plan"]["threads"])


@check
def client_when_it_has_a_quota_or_a_cpuset_then_no_more_workers_than_it_may_use() -> str:
    """Jobs keep to CPUQuota=, AllowedCPUs= and CPUAffinity= of the client's service."""
    wanted = {
        (): 4,
        ("CPUQuota=50%",): 1,
        ("CPUQuota=150%",): 1,
        ("CPUQuota=200%",): 2,
        ("AllowedCPUs=1-3",): 3,
        ("CPUAffinity=2",): 1,
    }
    found = {properties: _threads(list(properties)) for properties in wanted}
    require(found == wanted, f"threads: got {found}, wanted {wanted}")
    return ", ".join(f"{(*properties, 'none')[0]}: {threads}" for properties, threads in found.items())


@check
def client_when_its_memory_is_limited_then_a_populate_is_refused_or_its_own() -> str:
    """MemoryMax= is 64 MiB, and the memory has twice that size."""
    code = POPULATE.format(size=2 * MEMORY)
    limited = json.loads(_as_client([f"MemoryMax={MEMORY}"], "/usr/lib/ktaskd/bin/python", "-c", code))
    require(limited[0] == "RESOURCE_EXHAUSTED", f"{limited}")
    require("MEMORY" in limited[1] and str(MEMORY) in limited[2], f"{limited}")
    free = json.loads(_as_client([], "/usr/lib/ktaskd/bin/python", "-c", code))
    require(free[0] == "done", f"{free}")
    return f"{limited[0]} {limited[1]}; without a limit done"


@check
def power_when_unplugged_then_detached_jobs_pause_and_resume() -> str:
    """Unplug a fake machine, with a real event of the kernel.

    The kernel's test_power would be a supply to unplug, but Debian's kernel is built without it
    (CONFIG_TEST_POWER), and the package of headers for modules does not have its source.
    """
    config = Path("/etc/ktaskd/ktaskd.toml")
    text = config.read_text()
    config.write_text(text.replace("ac_hold_s = 60.0", "ac_hold_s = 2.0"))
    try:
        return _power()
    finally:
        config.write_text(text)
        run("systemctl", "restart", "ktaskd.service")


def _power() -> str:
    switch = _files()
    try:
        switch[True]()
        with detached(5.0):
            until("busy helpers", lambda: _busy())
            switch[False]()
            until("no busy helper", lambda: not _busy())
            reasons = [reason["code"] for reason in status()["allowance"].get("reasons", ())]
            require("ON_BATTERY" in reasons, f"reasons: {reasons}")
            job = ktask("run", "selftest.spin", "--arg", "ms=1", "--range", "0:5")
            require(job["state"] == "JOB_STATE_SUCCEEDED", "a waited job did not go on")
            switch[True]()
            until("busy helpers again", lambda: _busy())
    finally:
        _no_files()
    return "a fake machine, and a real event"


def _busy() -> int:
    return sum(bool(worker.get("jobId")) for worker in workers())


TREE = Path("/srv/host")
DROP_IN = Path("/etc/systemd/system/ktaskd.service.d/zz-host.conf")


def _files() -> dict[bool, Any]:
    """Make a fake laptop, and let the governor read it from now on."""
    supply = TREE / "sys/class/power_supply/AC"
    supply.mkdir(parents=True, exist_ok=True)
    (TREE / "proc").mkdir(exist_ok=True)
    for name, text in {"type": "Mains", "online": "1", "scope": "System"}.items():
        (supply / name).write_text(f"{text}\n")
    battery = TREE / "sys/class/power_supply/BAT0"
    battery.mkdir(exist_ok=True)
    for name, text in {"type": "Battery", "status": "Discharging", "capacity": "80", "present": "1"}.items():
        (battery / name).write_text(f"{text}\n")
    command = "/usr/bin/ktaskd --runtime-dir /run/ktaskd --helpers-socket /run/ktaskd/helpers.sock --selftest"
    DROP_IN.write_text(f"[Service]\nExecStart=\nExecStart={command} --host-root {TREE}\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "ktaskd.service")

    def switch(on: bool) -> None:
        (supply / "online").write_text("1\n" if on else "0\n")
        # Any event of the kernel makes the governor look again.
        Path("/sys/class/mem/null/uevent").write_text("change\n")

    return {on: lambda on=on: switch(on) for on in (True, False)}


def _no_files() -> None:
    DROP_IN.unlink()
    run("systemctl", "daemon-reload")
