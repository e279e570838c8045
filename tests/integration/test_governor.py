"""The governor of a real daemon that reads a machine made of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.hosts import FakeHost
from tests.support.real_daemon import (
    PATIENCE_S,
    Stubs,
    connected,
    running,
    spin,
    until,
    wait_state,
    write_config,
)

UEVENT = Path("/sys/class/net/lo/uevent")
"""Writing here causes a real event of the kernel, which a fake machine takes for its own."""


def status_of(stubs: Stubs) -> control_pb2.Status:
    return stubs.control.GetStatus(control_pb2.GetStatusRequest(), timeout=PATIENCE_S).status


def codes(status: control_pb2.Status) -> list[str]:
    return [reason.code for reason in status.allowance.reasons]


@contextmanager
def governed(place: Path, host: FakeHost, **governor: object) -> Iterator[Stubs]:
    config = write_config(place.parent / "ktaskd.toml", governor=governor)
    words = ("--config", config, "--host-root", host.root.top)
    with running(place, *words) as daemon, connected(daemon.socket) as stubs:
        yield stubs


def test_governor_when_unplugged_then_the_next_status_says_so_and_work_waits_until_plugged_in(
    place: Path, tmp_path: Path
) -> None:
    host = FakeHost.copy("laptop-ac", tmp_path / "laptop")
    with governed(place, host, ac_hold_s=0.2) as stubs:
        assert status_of(stubs).allowance.level == control_pb2.LEVEL_RUN, status_of(stubs)
        host.unplug()
        until(lambda: codes(status_of(stubs)) == ["ON_BATTERY"], "a status reads afresh")
        job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(20, 1)), timeout=PATIENCE_S).job
        waited = stubs.jobs.Run(pb.RunRequest(spec=spin(20, 1)), timeout=PATIENCE_S).job
        assert (waited.state, waited.cpu.helper_seconds) == (pb.JOB_STATE_SUCCEEDED, 0)
        status = status_of(stubs)
        assert status.allowance.level == control_pb2.LEVEL_PAUSED
        assert codes(status) == ["ON_BATTERY"]
        assert stubs.jobs.Get(pb.GetRequest(id=job.id), timeout=PATIENCE_S).job.progress.chunks_done == 0
        host.plug_in()
        UEVENT.write_text("change")
        # Other load on the machine may still keep a helper from running.
        wait_state(stubs.jobs, job.id, "RUNNING", "SUCCEEDED")


def test_governor_when_an_event_says_so_then_helpers_take_no_more(place: Path, tmp_path: Path) -> None:
    host = FakeHost.copy("laptop-ac", tmp_path / "laptop")
    with governed(place, host, ac_hold_s=0.2) as stubs:
        job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(5000, 2)), timeout=PATIENCE_S).job
        wait_state(stubs.jobs, job.id, "RUNNING")
        host.unplug()
        UEVENT.write_text("change")

        def still() -> bool:
            status = status_of(stubs)
            return codes(status) == ["ON_BATTERY"] and not any(node.busy for node in status.allowance.nodes)

        until(still, "no helper is busy")
        before = stubs.jobs.Get(pb.GetRequest(id=job.id), timeout=PATIENCE_S).job
        assert (before.state, before.progress.running_helpers) == (pb.JOB_STATE_RUNNING, 0)
        host.plug_in()
        UEVENT.write_text("change")
        until(lambda: any(node.busy for node in status_of(stubs).allowance.nodes), "a helper is busy")


@pytest.mark.parametrize(
    ("name", "level", "reasons"),
    [
        ("desktop", "RUN", []),
        ("desktop-usbc-gpu", "RUN", []),
        ("laptop-battery", "PAUSED", ["ON_BATTERY"]),
        ("device-battery", "RUN", []),
        ("no-psi", "RUN", []),
        ("desktop-cold-zone", "RUN", []),
        ("laptop-worn-battery", "RUN", []),
        ("laptop-two-batteries", "RUN", []),
    ],
)
def test_governor_when_on_a_machine_then_what_it_may(
    place: Path, tmp_path: Path, name: str, level: str, reasons: list[str]
) -> None:
    with governed(place, FakeHost.copy(name, tmp_path / name)) as stubs:
        status = status_of(stubs)
        assert (status.allowance.level, codes(status)) == (control_pb2.Level.Value(f"LEVEL_{level}"), reasons)


def test_sensor_when_it_cannot_be_believed_then_named_in_the_status_until_it_can(
    place: Path, tmp_path: Path
) -> None:
    host = FakeHost.copy("laptop-worn-battery", tmp_path / "laptop")
    why = 'BAT0 is not counted: it stays at 0 % on external power ("Not charging")'
    with governed(place, host) as stubs:
        assert why in status_of(stubs).missing
        host.write("/sys/class/power_supply/BAT0/status", "Charging")
        until(lambda: why not in status_of(stubs).missing, "a status reads afresh")


def test_sensor_when_it_is_wrong_once_then_nothing_comes_of_it(place: Path, tmp_path: Path) -> None:
    host = FakeHost.copy("laptop-ac", tmp_path / "laptop")
    with governed(place, host, confirm_s=1000.0) as stubs:
        job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(5000, 2)), timeout=PATIENCE_S).job
        wait_state(stubs.jobs, job.id, "RUNNING")
        host.unplug()
        host.write("/sys/class/power_supply/BAT0/capacity", "0")
        until(lambda: reading(status_of(stubs), "power") == "battery", "a status reads afresh")
        host.plug_in()
        host.write("/sys/class/power_supply/BAT0/capacity", "76")
        until(lambda: reading(status_of(stubs), "power") == "not on battery", "a status reads afresh")
        assert codes(status_of(stubs)) == []


def reading(status: control_pb2.Status, name: str) -> str:
    (found,) = [one.value for one in status.readings if one.name == name]
    return found
