"""Only a daemon of the client's own user that nobody else can reach runs the client's code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ktask
import pytest
from ktask.v1 import calls

from ktaskd.daemon.config import Config
from ktaskd.daemon.hostconfig import worker_user
from tests.client.processes import end
from tests.own import things
from tests.support.real_daemon import running, write_config
from tests.support.users import NOBODY, OtherUsers, reachable_directory


def refused(call: ktask.Client | ktask.Executor) -> ktask.KtaskError:
    with pytest.raises(ktask.KtaskError) as caught:
        if isinstance(call, ktask.Executor):
            call.submit(things.square, 2).result()
        else:
            call.run(things.square, ranges=[(0, 1)])
    return caught.value


def test_system_daemon_when_asked_then_permission_denied_and_what_to_use(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c", sockets={"mode": "0666"})
    with (
        running(tmp_path / "d", "--own-user", "--config", config) as daemon,
        ktask.connect(daemon.place) as client,
        ktask.Executor(1, target=daemon.place) as executor,
    ):
        for caller in (client, executor):
            error = refused(caller)
            found = error.code, error.reason, error.field
            assert found == ("PERMISSION_DENIED", "NOT_ALLOWED", "spec.function")
            assert "ktask.connect(own=True)" in error.message
            assert "systemctl --user" in error.message
        (listed,) = client.functions("python.run")
        assert "own" in listed.unavailable
        with ktask.memory(100) as m:  # but everything else works
            assert client.run("file.crc32", data=m).state == "SUCCEEDED"


REFUSED = """
import ktask
with ktask.connect({place!r}) as client:
    try:
        client.run(lambda *_: None, ranges=[(0, 1)])
    except ktask.KtaskError as error:
        print(error.code)
with ktask.Executor(1, target={place!r}) as executor:
    print(executor.submit(len, "x").exception().reason)
"""

OWN = """
import ktask, os
with ktask.Executor(2) as executor:
    print(executor.submit(lambda: os.getuid()).result())
with ktask.connect(own=True) as client:
    print(sum(client.map(lambda x: x * x, range(10))), client.status().pid)
"""


@pytest.mark.other_uid
def test_other_user_when_asking_then_refused_and_served_by_its_own(run_as: OtherUsers) -> None:
    with reachable_directory() as place:
        config = write_config(place / "c", sockets={"mode": "0666"})
        with running(place / "run", "--config", config) as daemon:
            place.joinpath("run").chmod(0o755)
            done = run_as(NOBODY, REFUSED.format(place=str(daemon.place)))
            assert done.stdout.split() == ["PERMISSION_DENIED", "CALLS_UNREACHABLE"], done.stderr
    done = run_as(NOBODY, OWN, env={"XDG_RUNTIME_DIR": str(run_as.home(NOBODY))})
    assert done.returncode == 0, done.stderr
    uid, total, pid = map(int, done.stdout.split())
    end(pid)
    assert (uid, total) == (NOBODY, 285)


def test_connect_when_own_then_the_embedded_one_and_it_runs_code(tmp_path: Path) -> None:
    with reachable_directory() as place:
        environ = {**os.environ, "XDG_RUNTIME_DIR": str(place)}
        environ.pop("KTASKD_SOCKET", None)
        command = [sys.executable, "-c", OWN]
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True)
        uid, total, pid = map(int, done.stdout.split())
        end(pid)
    assert (uid, total) == (os.getuid(), 285)


def test_root_when_its_workers_are_another_user_then_no_code_of_its_own() -> None:
    settings = Config().workers
    assert not worker_user(settings, 0, private=False).own_code
    for euid in (0, 1000):
        assert worker_user(type(settings)(user=""), euid, private=True).own_code
        assert not worker_user(type(settings)(user=""), euid, private=False).own_code
    someone = worker_user(type(settings)(user="nobody"), 0, private=True)
    assert (someone.uid > 0, someone.own_code) == (True, False)


def test_client_when_killed_then_the_next_daemon_removes_what_it_left(tmp_path: Path) -> None:
    with running(tmp_path / "d", "--own-user") as daemon:
        code = (
            "import ktask, os, sys\n"
            "executor = ktask.Executor(1, target=sys.argv[1])\n"
            "executor.submit(len, 'x').result()\n"
            "os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", code, str(daemon.place)], check=False)
        assert list(daemon.inner.parent.glob(f"{calls.NAME_PREFIX}????????"))
    assert not daemon.place.exists() or not list(daemon.place.iterdir())


def test_status_when_workers_are_of_ones_own_user_then_nothing_is_missing_for_it(tmp_path: Path) -> None:
    with running(tmp_path / "d", "--own-user") as daemon, ktask.connect(daemon.place) as client:
        assert not [text for text in client.status().missing if "workers.user" in text]
