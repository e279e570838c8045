"""`ktaskd --check-host` on this machine, whatever it provides."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from ktask.v1 import control_pb2

from ktaskd.daemon.checkhost import GIVES_WAY_BELOW, Findings
from ktaskd.host.cgroups.idlegroup import IdleGroupRefused
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling.rival import group_for_rival
from tests.support.cgroups import cgroup, legacy_mount
from tests.support.groups import idle_group, own_groups
from tests.support.real_daemon import Daemon, connected, running, until, write_config
from tests.support.units import listening, start_unit
from tests.support.users import NOBODY, OtherUsers

pytestmark = pytest.mark.alone  # shares of a CPU

KTASKD = Path(sys.executable).parent / "ktaskd"


def found(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return its lines by their names, and check that the status agrees with the verdict."""
    assert done.stderr == ""
    lines = {line[:24].strip(): line[24:] for line in done.stdout.splitlines()}
    assert done.returncode == (0 if lines["verdict"].startswith("helpers give way here") else 1), done.stdout
    assert {"nodes", "cgroups", "systemd", "autogroup", "pressure (PSI)", "own idle cgroup"} <= lines.keys()
    assert {"helper", "gives way by", "raising by", "next to another cgroup"} <= lines.keys(), done.stdout
    return lines


def kept(text: str) -> float:
    """Return the CPU share in "the helper keeps 0.4% of the CPU"."""
    return float(text.partition("keeps ")[2].partition("%")[0]) / 100


def lacking(out: str) -> set[str]:
    """Return the advice in its lines, except advice about a single process."""
    texts = {line[24:] for line in out.splitlines() if line.startswith("to change")}
    return {text for text in texts if not text.startswith("idle cgroup")}


def agree(daemon: Daemon, lines: dict[str, str], out: str) -> None:
    """Check that `--check-host` and the daemon's own status agree about helpers and the machine."""

    def told() -> control_pb2.Status:
        return stubs.control.GetStatus(control_pb2.GetStatusRequest(), timeout=60).status

    def helpers() -> list[control_pb2.Worker]:
        pools = [pool for pool in told().pools if pool.worker_class == control_pb2.WORKER_CLASS_HELPER]
        return [worker for pool in pools for worker in pool.workers if worker.gives_way_by]

    with connected(daemon.socket) as stubs:
        until(lambda: bool(helpers()) and bool(told().raising), "a helper is ready, and tried")
        (helper,), status = helpers()[:1], told()
    assert lines["given up"] == ", ".join(helper.gave_up)
    assert lines["gives way by"] == helper.gives_way_by
    assert lines["raising by"] == ", ".join(status.raising)
    missing = {text for text in (*status.missing, *helper.missing) if not text.startswith("idle cgroup")}
    assert lacking(out) == missing


@pytest.mark.parametrize(("wanted", "mode"), [("auto", "0666"), ("never", "0600")])
def test_check_when_run_then_measured_as_helpers_are_placed_and_as_the_daemon_says(
    tmp_path: Path, wanted: str, mode: str
) -> None:
    with idle_group() as group:
        possible = group is not None
    manifests = tmp_path / "functions.d"
    manifests.mkdir(mode=0o755)
    (manifests / "bad.toml").write_text("name = 3\n")
    config = write_config(
        tmp_path / "x.toml",
        workers={"idle_group": wanted, "user": "nobody"},
        sockets={"mode": mode},
        governor={"user_active": "one"},
        functions={"dir": str(manifests)},
    )
    words = [str(KTASKD), "--check-host", "--config", str(config)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=110)
    lines = found(subprocess.CompletedProcess(words, process.returncode, out, err))
    assert any(str(manifests) in text for text in lacking(out))
    with running(tmp_path / "run", "--config", config) as daemon:
        agree(daemon, lines, out)
    assert own_groups(process.pid) == []
    if possible:
        assert process.returncode == 0, out
        assert lines["gives way by"] == ("idle cgroup" if wanted == "auto" else "autogroup")
        assert kept(lines["next to another cgroup"]) < GIVES_WAY_BELOW
        assert kept(lines["next to another session"]) < GIVES_WAY_BELOW
        assert kept(lines["lowered again"]) < GIVES_WAY_BELOW
        assert kept(lines["raised"]) > 0.3


def test_check_when_started_in_an_ordinary_group_then_1_and_what_to_change() -> None:
    try:
        with group_for_rival(HostRoot()) as group:
            done = subprocess.run(
                ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$1" --check-host', group, KTASKD],
                check=False,
                capture_output=True,
                text=True,
                timeout=110,
            )
    except IdleGroupRefused:
        return  # systemd manages all cgroups here; other tests cover the advice for that
    assert done.returncode == 1
    lines = found(done)
    assert lines["gives way by"] == "nothing"
    assert group.name in lines["own idle cgroup"]
    assert any(text.startswith("giving way: its cgroup") for text in lacking(done.stdout))


def test_check_when_helpers_come_from_a_unit_then_those_are_measured(tmp_path: Path) -> None:
    mount = legacy_mount("cpu")
    if mount is None or not (mount / "cpu.idle").exists():
        return
    config, path = tmp_path / "x.toml", tmp_path / "helpers.sock"
    config.write_text(f'[workers]\nhelpers_socket = "{path}"\n')
    with cgroup(mount, {"cpu.idle": "1"}) as group, listening(path) as sock:
        server = start_unit([KTASKD, "--pool-hosts"], listener=sock, groups=[group], cgroup_fd=True)
        words: list[str | Path] = [KTASKD, "--check-host", "--config", config]
        lines = found(subprocess.run(words, check=False, capture_output=True, text=True, timeout=110))
        server.terminate()
        assert server.wait() == 0
    assert f"helpers come from {path}" in lines["own idle cgroup"]
    assert lines["gives way by"] == "idle slice"
    assert lines["raising by"].startswith("out of the idle cgroup")
    assert kept(lines["next to another cgroup"]) < GIVES_WAY_BELOW
    assert kept(lines["raised"]) > 0.3
    assert lines["verdict"] == "helpers give way here, by idle slice"


@pytest.mark.other_uid
def test_check_when_run_by_a_user_then_measured_too(run_as: OtherUsers) -> None:
    done = run_as(NOBODY, [run_as.program("ktaskd"), "--check-host"], timeout=110)
    lines = found(done)
    place = run_as.home(NOBODY) / "run"
    with running(place, program=run_as.program("ktaskd"), popen=partial(run_as.start, NOBODY)) as daemon:
        agree(daemon, lines, done.stdout)
    assert f"uid {NOBODY}" in lines["helper"]
    assert os.geteuid() == 0
    assert lines["next to another cgroup"].startswith("not measured: ")
    if lines["gives way by"] == "autogroup":
        assert lines["raising by"] == "autogroup nice 0"
        assert kept(lines["next to another session"]) < GIVES_WAY_BELOW
        assert kept(lines["raised"]) > 0.3


@pytest.mark.parametrize(
    ("by", "shares", "good"),
    [
        ("autogroup", [0.01, 0.04], True),
        ("autogroup", [0.01, 0.06], False),
        ("", [0.01], False),  # some rivals could not be measured
        ("autogroup", [], False),
    ],
)
def test_verdict_when_measured_then_only_good_if_each_share_was(
    by: str, shares: list[float], good: bool
) -> None:
    findings = Findings(shares=shares, gives_way_by=by)
    assert findings.good is good
    assert findings.format().endswith(
        f"helpers give way here, by {by}" if good else "helpers do not give way here"
    )
