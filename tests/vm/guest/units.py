"""The machine, the units, and the first client."""

from __future__ import annotations

import json
import re
from pathlib import Path

from .kit import CGROUPS, DAEMON, HELPERS, RUN, check, ktask, prop, require, run, status, until, workers

DROP_IN = Path("/etc/systemd/system/ktaskd.service.d/test.conf")


@check
def machine_has_two_nodes_cgroup_v2_and_psi() -> str:
    """The other checks rely on these facts."""
    nodes = sorted(path.name for path in Path("/sys/devices/system/node").glob("node[0-9]*"))
    require(nodes == ["node0", "node1"], f"nodes: got {nodes}")
    controllers = (CGROUPS / "cgroup.controllers").read_text().split()
    require({"cpu", "cpuset", "io", "memory", "pids"} <= set(controllers), f"controllers: {controllers}")
    require(Path("/proc/pressure/cpu").read_text().startswith("some"), "no PSI")
    version = run("systemctl", "--version").split()[1]
    return f"{len(nodes)} nodes, {', '.join(controllers)}, systemd {version}"


@check
def units_are_sound() -> str:
    """systemd reports no problem."""
    names = [
        "ktaskd.socket",
        "ktaskd.service",
        "ktaskd-helpers.socket",
        "ktaskd-helpers.service",
        "ktaskd.slice",
    ]
    printed = run("systemd-analyze", "verify", *(f"/usr/lib/systemd/system/{name}" for name in names))
    require(not printed.strip(), printed)
    exposures = []
    for name in ("ktaskd.service", "ktaskd-helpers.service"):
        text = run("systemd-analyze", "security", "--no-pager", name)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
        require(found and float(found[1]) <= 1.2, text)
        exposures.append(found[1] if found else "")
    return f"exposure {', '.join(exposures)}"


@check
def first_client_when_it_comes_then_the_units_start() -> str:
    """Socket activation starts the daemon, which has no rights of root."""
    require(prop("ktaskd.service", "ActiveState") == "inactive", "it ran already")
    require(ktask("status"), "no status")
    require(prop("ktaskd.service", "ActiveState") == "active", "ktaskd.service does not run")
    until("the helpers' service", lambda: prop("ktaskd-helpers.service", "ActiveState") == "active")
    until("a helper of each node", lambda: len({worker["nid"] for worker in workers()}) == 2)
    pid = prop("ktaskd.service", "MainPID")
    lines = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    require(int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 0, f"capabilities: {lines['CapEff']}")
    require("0" not in lines["Uid"].split(), f"uid {lines['Uid']}")
    return f"uid {lines['Uid'].split()[0]}, capabilities none"


@check
def helpers_are_in_the_idle_slice_and_the_lead_is_not() -> str:
    """The kernel and the status agree."""
    require((CGROUPS / "ktaskd.slice/cpu.idle").read_text().strip() == "1", "ktaskd.slice: cpu.idle is 0")
    inside = set((HELPERS / "cgroup.procs").read_text().split())
    for worker in workers():
        require(str(worker["pid"]) in inside, f"helper {worker['pid']} is not in {HELPERS}")
        require(worker["givesWayBy"] == "idle slice", f"{worker}")
        require(worker["policy"] == "idle" and worker["nice"] == 19, f"{worker}")
    leads = workers("LEAD")
    require(leads, "no lead")
    own = set((DAEMON / "cgroup.procs").read_text().split())
    require(all(str(lead["pid"]) in own for lead in leads), "a lead is not in the daemon's group")
    missing = [text for worker in [*workers(), *leads] for text in worker.get("missing", ())]
    require(not missing, f"missing: {missing}")
    ways = until("ways to raise a helper", lambda: status().get("raising"))
    require("out of the idle cgroup" in ways, f"raised by {ways}")
    return f"{len(workers())} helpers, raised by {', '.join(ways)}"


@check
def patterns_are_compiled_under_the_units() -> str:
    """The library's compiler makes memory executable, which a unit could forbid."""
    text = Path("/tmp/lines")
    text.write_bytes(b"line of text 12\n" * (1 << 19))
    found = ktask("run", "text.search", f"data={text}", "pattern=l[a-z]+ of", "regex=true")
    text.unlink()
    # Normal memory maps have no part that is writable and executable.
    compiling = [one["pid"] for one in [*workers(), *workers("LEAD")] if _has_compiled(int(one["pid"]))]
    require(compiling, f"no worker has compiled a pattern: {found}")
    return f"{len(compiling)} workers"


def _has_compiled(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return any("rwxp" in line for line in lines)


@check
def selftest_functions_when_added_by_a_drop_in_then_the_service_restarts_with_them() -> str:
    """Change the command line like an administrator; the other checks need these functions."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    command = "/usr/bin/ktaskd --runtime-dir /run/ktaskd --helpers-socket /run/ktaskd/helpers.sock --selftest"
    DROP_IN.write_text(f"[Service]\nExecStart=\nExecStart={command}\nWatchdogSec=8\n")
    run("systemctl", "daemon-reload")
    before = prop("ktaskd.service", "MainPID")
    hosts = prop("ktaskd-helpers.service", "MainPID")
    run("systemctl", "restart", "ktaskd.service")
    require(prop("ktaskd.service", "MainPID") != before, "it was not restarted")
    require(prop("ktaskd-helpers.service", "MainPID") == hosts, "the helpers' service was restarted, too")
    require(
        {path.name for path in RUN.glob("*.sock")} == {"ktaskd.sock", "handoff.sock", "helpers.sock"},
        "sockets",
    )
    names = json.dumps(ktask("functions"))
    require("selftest.spin" in names, names)
    until("a helper of each node", lambda: len({worker["nid"] for worker in workers()}) == 2)
    return "restarted, the helpers' service was not"
