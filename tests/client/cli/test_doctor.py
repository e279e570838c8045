"""`ktask doctor` names what is wrong, and ends 1 if it must be mended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ktask import convert
from ktask.cli.health import Client, Finding, Grade, of_client, of_daemon
from ktask.cli.version import VERSION
from ktask.status import Pool, Status, Worker

from tests.client.fake import FakeDaemon
from tests.client.fake_messages import a_status
from tests.client.shell import ktask
from tests.support.real_daemon import running

SOUND = Client(1024, True, {"numpy": True})


def a_worker(**values: object) -> Worker:
    """A helper that gives way, unless `values` say otherwise."""
    worker = Worker(
        *(1, 4711, "IDLE", "0", "idle", 19, "idle", 800, 19, "", "default"),
        *((), "", 0, 0, 0, 0),
        gives_way_by="idle slice",
    )
    return replace(worker, **values)  # type: ignore[arg-type]


@pytest.fixture
def sound(tmp_path: Path) -> Status:
    """The status of a daemon with nothing to mend."""
    status = convert.status(a_status(tmp_path))
    pool = Pool("node0", "HELPER", 0, 1, (a_worker(),), 0)
    return replace(
        status,
        version=VERSION,
        mode="AUTO",
        draining=False,
        missing=(),
        pools=(pool,),
        raising=("autogroup",),
    )


def with_helper(status: Status, **values: object) -> Status:
    return replace(status, pools=(replace(status.pools[0], workers=(a_worker(**values),)),))


def bad(found: list[Finding]) -> list[tuple[Grade, str]]:
    return [(one.grade, one.about) for one in found if one.grade is not Grade.OK]


def test_daemon_when_sound_then_no_finding(sound: Status) -> None:
    assert bad(list(of_daemon(sound, VERSION, {}))) == []


def test_daemon_when_something_is_wrong_then_named_with_its_step(sound: Status) -> None:
    cases = [
        (replace(sound, version="0.0.1"), Grade.NOTE, "version"),
        (replace(sound, missing=("no user; create one",)), Grade.MEND, "daemon"),
        (replace(sound, draining=True), Grade.MEND, "daemon"),
        (replace(sound, mode="PAUSED"), Grade.NOTE, "mode"),
        (with_helper(sound, gives_way_by=""), Grade.MEND, "helpers"),
        (with_helper(sound, policy="normal"), Grade.MEND, "helpers"),
        (with_helper(sound, missing=("idle I/O: EPERM; allow it",)), Grade.MEND, "workers"),
    ]
    for status, grade, about in cases:
        found = list(of_daemon(status, VERSION, {}))
        assert bad(found) == [(grade, about)]
        assert all(one.step for one in found if one.grade is not Grade.OK)


def test_daemon_when_it_is_a_users_own_then_it_lacks_what_it_may_but_must_give_way(sound: Status) -> None:
    lacking = replace(with_helper(sound, missing=("idle cgroup: EPERM; be root",)), missing=("x; be root",))
    assert {grade for grade, _ in bad(list(of_daemon(lacking, VERSION, {}, is_own=True)))} == {Grade.NOTE}
    rude = with_helper(sound, gives_way_by="")
    assert bad(list(of_daemon(rude, VERSION, {}, is_own=True))) == [(Grade.MEND, "helpers")]


def test_daemon_when_a_helper_is_raised_then_it_may_have_normal_priority(sound: Status) -> None:
    assert bad(list(of_daemon(with_helper(sound, policy="normal", raised=True), VERSION, {}))) == []


def test_daemon_when_a_helper_is_not_set_up_yet_then_no_finding(sound: Status) -> None:
    assert bad(list(of_daemon(with_helper(sound, state="STARTING", gives_way_by=""), VERSION, {}))) == []


def test_daemon_when_a_function_cannot_run_then_noted(sound: Status) -> None:
    found = list(of_daemon(sound, VERSION, {"array.map": "needs numpy"}))
    assert bad(found) == [(Grade.NOTE, "function")]


@pytest.mark.parametrize(
    ("client", "wanted"),
    [
        (SOUND, []),
        (replace(SOUND, open_files=64), [(Grade.NOTE, "open files")]),
        (replace(SOUND, has_pressure=False), [(Grade.NOTE, "kernel")]),
        (replace(SOUND, packages={"numpy": False}), [(Grade.NOTE, "packages")]),
        (replace(SOUND, pending_group="ktask"), [(Grade.MEND, "group")]),
    ],
)
def test_client_when_something_is_wrong_then_named(client: Client, wanted: list[tuple[Grade, str]]) -> None:
    found = list(of_client(client))
    assert bad(found) == wanted
    assert all(one.step for one in found)


def test_doctor_when_no_daemon_answers_where_one_was_named_then_1(tmp_path: Path) -> None:
    done = ktask(tmp_path, "doctor")
    assert (done.status, done.err) == (1, "")
    assert f'mend  daemon: socket "{tmp_path}/ktaskd.sock"' in done.out
    assert "-> name another one with --socket" in done.out


def test_doctor_when_a_call_fails_then_1_and_the_others_are_made(fake: FakeDaemon) -> None:
    done = ktask(fake.directory, "doctor")
    assert f'ok    daemon: answers at "{fake.directory}/ktaskd.sock"' in done.out


def test_doctor_when_a_real_daemon_runs_then_as_its_status_says(tmp_path: Path) -> None:
    with running(tmp_path / "d") as daemon:
        done = ktask(daemon.place, "doctor", "--json")
        lacking = json.loads(ktask(daemon.place, "status", "--json").out)["status"].get("missing", [])
    found = json.loads(done.out)["findings"]
    grades = [one["grade"] for one in found]
    assert done.status == int("mend" in grades)
    assert sum(one["about"] == "daemon" and one["grade"] == "mend" for one in found) == len(lacking)
    assert {"grade": "ok", "about": "version", "text": f"{VERSION}, client and daemon", "step": ""} in found
