"""Metrics that the configuration asks for, on machines that cannot give them."""

from __future__ import annotations

import grp
import os
import sys
from pathlib import Path

import pytest

from ktaskd.daemon.checkconfig import problems, sources
from ktaskd.daemon.config import Given
from ktaskd.daemon.metering import socket_rights, why_no_library
from ktaskd.daemon.settings import MetricsSettings
from ktaskd.host.root import HostRoot


def complaints(place: Path, text: str) -> list[str]:
    path = place / "c.toml"
    path.write_text(text)
    given = Given(path)
    return [one.removeprefix(f"{path}: ") for one in problems(given, sources(given), HostRoot())]


def test_library_when_not_installed_then_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert why_no_library() == ""
    for name in [name for name in sys.modules if name.startswith("prometheus_client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    words = "metrics: the Python package prometheus-client is not installed; install ktaskd[metrics]"
    assert why_no_library() == words
    assert complaints(tmp_path, f'[metrics]\nsocket = "{tmp_path}/m"\n') == [f"metrics.socket: {words}"]
    assert complaints(tmp_path, "[metrics]\ninterval_s = 5\n") == []


def test_check_when_directory_or_group_is_missing_then_named(tmp_path: Path) -> None:
    text = '[metrics]\nsocket = "/none/m.sock"\ntextfile = "/none/k.prom"\nsocket_group = "nogroup-of-ours"\n'
    assert complaints(tmp_path, text) == [
        "metrics.socket: /none: no such directory; make it",
        "metrics.textfile: /none: no such directory; make it",
        'metrics.socket_group: there is no group "nogroup-of-ours" to own the socket; create it',
    ]


def test_rights_when_auto_then_open_to_the_group_if_there_is_one() -> None:
    mine = grp.getgrgid(os.getegid())
    assert socket_rights(MetricsSettings()) == (0o600, -1)
    assert socket_rights(MetricsSettings(socket_group=mine.gr_name)) == (0o660, mine.gr_gid)
    assert socket_rights(MetricsSettings(socket_mode="0666")) == (0o666, -1)
    with pytest.raises(OSError, match="there is no group"):
        socket_rights(MetricsSettings(socket_group="nogroup-of-ours"))


def test_rights_when_not_in_the_group_then_the_way_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    monkeypatch.setattr(os, "getegid", lambda: 1)
    monkeypatch.setattr(os, "getgroups", list)
    root = grp.getgrgid(0).gr_name
    with pytest.raises(OSError, match=f"add SupplementaryGroups={root} to its service"):
        socket_rights(MetricsSettings(socket_group=root))
