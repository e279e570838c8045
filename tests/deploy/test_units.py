"""The units are valid, give up all rights that they do not need, and fit together."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SERVICES = ("ktaskd.service", "ktaskd-helpers.service")
UNITS = (*SERVICES, "ktaskd.socket", "ktaskd-helpers.socket", "ktaskd.slice")
EXPOSURE_MAX = 1.2
"""The value of systemd-localed on Debian 12."""

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs the program systemd-analyze"
)


def read(name: str) -> dict[str, dict[str, list[str]]]:
    """Return sections, keys, and all values of a key, as systemd reads them."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (DEPLOY / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(section, {}).setdefault(key, []).append(value)
    return found


@needs_systemd
def test_units_when_verified_then_nothing_to_say(tmp_path: Path) -> None:
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/bin/ktaskd", "/bin/true"))
    words = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "ktask" in line]
    assert said == []


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_service_when_analysed_then_hardly_exposed(name: str) -> None:
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(DEPLOY / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


@pytest.mark.parametrize("name", SERVICES)
def test_service_when_read_then_what_the_daemon_stands_on_is_there(name: str) -> None:
    service = read(name)["Service"]
    assert service["User"] == ["ktaskd"]
    assert service["LimitNICE"] == ["+0"]  # a helper can be raised again, and no higher
    assert service["CapabilityBoundingSet"] == [""]
    assert service["KillMode"] == ["mixed"]
    slice_ = service.get("Slice", ["system.slice"])[0]
    assert service["StandardOutput"] == [f"file:/sys/fs/cgroup/{slice_}/%n/cgroup.procs"]
    # The daemon resolves users' paths as the users do, and identifies callers by their uid.
    assert not {"PrivateTmp", "PrivateUsers", "ProcSubset"} & service.keys()
    assert service.get("ProtectProc", ["default"]) == ["default"]


def percent(values: list[str]) -> int:
    (value,) = values
    assert value.endswith("%")
    return int(value[:-1])


@pytest.mark.parametrize("name", [*SERVICES, "ktaskd-user.service"])
def test_service_when_read_then_memory_has_a_last_bound_that_workers_do_not_meet_early(name: str) -> None:
    service = read(name)["Service"]
    # Memory that is filled for clients is charged to the unit, so only the machine limits it.
    assert 80 <= percent(service["MemoryHigh"]) < percent(service["MemoryMax"]) <= 95
    if name != "ktaskd-helpers.service":
        assert service["LimitDATA"] == ["1G:infinity"], "the daemon's own, which pool hosts lift"


def test_slice_when_read_then_at_the_top_and_idle() -> None:
    """A dash in its name would make it a child of a slice with ordinary weight."""
    assert read("ktaskd.slice")["Slice"] == {"CPUWeight": ["idle"], "IOWeight": ["1"]}
    assert read("ktaskd-helpers.service")["Service"]["Slice"] == ["ktaskd.slice"]
    assert "Slice" not in read("ktaskd.service")["Service"]


def test_sockets_when_read_then_the_paths_that_programs_look_for() -> None:
    daemon, helpers = read("ktaskd.socket")["Socket"], read("ktaskd-helpers.socket")["Socket"]
    assert daemon["ListenStream"] == ["/run/ktaskd/ktaskd.sock"]
    assert daemon["ListenSequentialPacket"] == ["/run/ktaskd/handoff.sock"]
    assert (daemon["SocketGroup"], daemon["SocketMode"]) == (["ktask"], ["0660"])
    (path,) = helpers["ListenSequentialPacket"]
    assert (helpers["SocketUser"], helpers["SocketMode"]) == (["ktaskd"], ["0600"])
    (command,) = read("ktaskd.service")["Service"]["ExecStart"]
    assert command.endswith(f"--helpers-socket {path}")


def test_services_when_one_restarts_then_the_other_does_not() -> None:
    for name in SERVICES:
        unit = read(name)["Unit"]
        named = " ".join(value for key in ("BindsTo", "PartOf", "Requires") for value in unit.get(key, []))
        assert not [other for other in SERVICES if other in named]


def test_accounts_when_read_then_those_of_the_units() -> None:
    users = (DEPLOY / "ktaskd.sysusers").read_text()
    assert re.search(r"^u\s+ktaskd\s", users, re.MULTILINE)
    assert re.search(r"^g\s+ktask\s", users, re.MULTILINE)
    assert re.search(
        r"^d\s+/run/ktaskd\s+0755\s+ktaskd\s", (DEPLOY / "ktaskd.tmpfiles").read_text(), re.MULTILINE
    )


def test_user_unit_when_read_then_a_daemon_of_ones_own() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(DEPLOY / "ktaskd-user.service")
    assert parser["Service"]["ExecStart"] == "/usr/bin/ktaskd --idle-exit 600"
    assert parser["Install"]["WantedBy"] == "default.target"
