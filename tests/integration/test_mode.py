"""The mode of a real daemon: what it does to jobs, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import (
    PATIENCE_S,
    Stubs,
    connected,
    run_program,
    running,
    spin,
    wait_state,
    write_config,
)

KTASK = Path(sys.executable).parent / "ktask"


def set_mode(stubs: Stubs, mode: str, seconds: float = 0.0) -> control_pb2.Status:
    request = control_pb2.SetModeRequest(mode=control_pb2.Mode.Value(f"MODE_{mode}"))
    if seconds:
        request.duration.FromMilliseconds(int(seconds * 1000))
    return stubs.control.SetMode(request, timeout=PATIENCE_S).status


def status_of(stubs: Stubs) -> control_pb2.Status:
    return stubs.control.GetStatus(control_pb2.GetStatusRequest(), timeout=PATIENCE_S).status


def codes(status: control_pb2.Status) -> list[str]:
    return [reason.code for reason in status.allowance.reasons]


def watched_until_auto(watch: Any) -> set[control_pb2.Mode.ValueType]:
    """The modes that a watcher sees before the mode is AUTO."""
    seen: set[control_pb2.Mode.ValueType] = set()
    for one in watch:
        if one.status.mode == control_pb2.MODE_AUTO:
            watch.cancel()
            return seen
        seen.add(one.status.mode)
    raise AssertionError("the watch has ended")


def test_mode_when_paused_then_waited_jobs_go_on_with_the_lead_and_detached_ones_wait(place: Path) -> None:
    config = write_config(place.parent / "ktaskd.toml", governor={"on_battery": "run"})
    with running(place, "--config", config) as daemon, connected(daemon.socket) as stubs:
        status = set_mode(stubs, "PAUSED")
        assert status.mode == control_pb2.MODE_PAUSED
        assert status.allowance.level == control_pb2.LEVEL_PAUSED
        assert sum(node.helpers for node in status.allowance.nodes) == 0
        assert codes(status)[0] == "ADMIN_PAUSED"
        assert not status.HasField("mode_until")

        detached = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(20, 1)), timeout=PATIENCE_S).job
        waited = stubs.jobs.Run(pb.RunRequest(spec=spin(20, 1)), timeout=PATIENCE_S).job
        assert waited.state == pb.JOB_STATE_SUCCEEDED
        assert waited.cpu.helper_seconds == 0
        assert waited.cpu.lead_seconds > 0
        held = stubs.jobs.Get(pb.GetRequest(id=detached.id), timeout=PATIENCE_S).job
        assert (held.state, held.progress.chunks_done) == (pb.JOB_STATE_QUEUED, 0)

        set_mode(stubs, "ALWAYS")
        # Whether the rest of the machine lets a helper get on is another matter.
        wait_state(stubs.jobs, detached.id, "RUNNING", "SUCCEEDED")


def test_mode_when_its_time_is_over_then_auto_and_the_watcher_is_told(place: Path) -> None:
    with running(place) as daemon, connected(daemon.socket) as stubs:
        request = control_pb2.WatchStatusRequest()
        request.min_interval.FromMilliseconds(100)
        watch = stubs.control.WatchStatus(request, timeout=PATIENCE_S)
        assert next(iter(watch)).status.mode == control_pb2.MODE_AUTO
        status = set_mode(stubs, "ALWAYS", 1.0)
        assert status.mode == control_pb2.MODE_ALWAYS
        assert status.mode_until.ToNanoseconds() > status.start_time.ToNanoseconds()
        assert watched_until_auto(watch) == {control_pb2.MODE_ALWAYS}
        assert not status_of(stubs).HasField("mode_until")
        assert "governor mode_set mode=always seconds=1\n" in daemon.log()


def test_mode_when_set_by_the_command_then_printed(place: Path) -> None:
    with running(place) as daemon:
        done = run_program([KTASK, "--socket", daemon.place, "mode", "paused", "--for", "1h"])
        assert (done.returncode, done.stdout[:13]) == (0, "paused until "), done.stderr
        assert run_program([KTASK, "--socket", daemon.place, "mode"]).stdout == done.stdout
        shown = run_program([KTASK, "--socket", daemon.place, "status"]).stdout
        assert "allowance: no helpers, detached jobs wait\n" in shown
        assert "because: ADMIN_PAUSED: " in shown


def test_governor_when_its_section_changes_then_without_a_restart(place: Path) -> None:
    path = place.parent / "ktaskd.toml"
    config = write_config(path, governor={"battery_low_percent": 20.0})
    with running(place, "--config", config) as daemon, connected(daemon.socket) as stubs:
        write_config(path, governor={"battery_low_percent": 10.0, "on_battery": "leads"})
        told = stubs.control.Reload(control_pb2.ReloadRequest(), timeout=PATIENCE_S)
        assert sorted(told.applied) == ["governor.battery_low_percent", "governor.on_battery"]
        assert not told.needs_restart
        names = [reading.name for reading in status_of(stubs).readings]
        assert names[:2] == ["power", "battery"]
