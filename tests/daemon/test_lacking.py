"""The status also shows what is found missing only after the start."""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ktask.v1 import control_pb2

from ktaskd.daemon.found import Found
from ktaskd.daemon.hostconfig import WorkerUser
from ktaskd.daemon.lacking import Lacking
from tests.support.real_daemon import connected, running, until


@dataclass
class Part:
    """A part of the daemon that finds out only later what it lacks."""

    missing: list[str] = field(default_factory=list)


def test_lacking_when_parts_find_something_out_later_then_asked_anew_and_each_text_once() -> None:
    watch, governor, raiser = Part(), SimpleNamespace(doubted=()), Part()
    pool, more = SimpleNamespace(trouble=""), [""]
    parts: Any = {
        "notifier": SimpleNamespace(missing=""),
        "watch": watch,
        "governor": governor,
        "pools": [pool],
        "raiser": raiser,
    }
    lacking = Lacking(
        user=WorkerUser(refusal="no user"), no_group="", functions=("f",), others=[lambda: more], **parts
    )
    assert lacking() == ["no user", "f"]
    watch.missing.append("no bus")
    governor.doubted = ("zone 3",)
    pool.trouble = "no pool host"
    raiser.missing += ["no way", "no bus"]
    more.append("not watched")
    assert lacking() == ["no user", "no bus", "f", "not watched", "zone 3", "no pool host", "no way"]
    watch.missing.clear()
    assert "zone 3" in lacking()
    assert lacking()[-1] == "no bus"


def test_lacking_when_the_user_is_as_wanted_then_no_refusal() -> None:
    parts: Any = {name: Part() for name in ("watch", "raiser")}
    parts |= {"notifier": SimpleNamespace(missing=""), "governor": SimpleNamespace(doubted=())}
    user = WorkerUser(refusal="own", wanted=True)
    assert Lacking(user=user, no_group="", functions=(), pools=(), **parts)() == []


@pytest.mark.parametrize(
    ("installed", "says"),
    [(True, "system bus: no connection: "), (False, "dbus-fast is not installed: ")],
)
def test_status_when_the_bus_cannot_be_used_then_it_says_why(
    tmp_path: Path, installed: bool, says: str
) -> None:
    """The first connection shows both, after all parts of the daemon were made."""
    (tmp_path / "dbus_fast.py").write_text("raise ImportError\n")
    environ = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/none"}
    if not installed:
        environ["PYTHONPATH"] = str(tmp_path)

    def popen(command: list[Any], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environ, **options)

    with running(tmp_path / "run", popen=popen) as daemon, connected(daemon.socket) as stubs:

        def missing() -> list[str]:
            return list(stubs.control.GetStatus(control_pb2.GetStatusRequest(), timeout=60).status.missing)

        until(lambda: any(text.startswith(says) for text in missing()), "the status says it")


def test_found_when_the_directory_cannot_be_watched_then_it_says_why(tmp_path: Path) -> None:
    runtime: Any = SimpleNamespace(path=tmp_path / "none", inner_path=tmp_path / "none/inner/grpc.sock")

    async def test() -> None:
        found = Found(runtime, lambda: None)
        assert found.missing == ""
        found.start()
        assert found.missing.startswith("runtime directory: its removal would go unnoticed: ")
        found.close()

    asyncio.run(test())
