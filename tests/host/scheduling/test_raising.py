"""Raising or lowering a process that is gone ends."""

from __future__ import annotations

import subprocess

from ktaskd.host.scheduling.raising import Raiser


def test_lower_when_the_process_is_gone_then_there_is_nothing_more_to_do() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    raiser = Raiser()
    assert raiser.lower(process.pid)
    assert not raiser.raise_(process.pid)
