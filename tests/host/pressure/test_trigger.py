"""PSI triggers of the real kernel."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktaskd.host.cgroups.cgroup import parse_mounts
from ktaskd.host.pressure.trigger import Triggers

PATIENCE_S = 60.0


@pytest.fixture
def triggers() -> Iterator[Triggers]:
    made = Triggers()
    yield made
    made.close()


@pytest.mark.other_uid  # before Linux 6.5 only root may have a trigger
def test_trigger_when_tasks_wait_then_readable_through_the_one_descriptor(triggers: Triggers) -> None:
    path = Path("/proc/pressure/cpu")
    assert triggers.add(path, 1)
    mine = os.sched_getaffinity(0)
    children = [_hog(min(mine)) for _ in range(2)]
    try:
        assert select.select([triggers.fileno()], [], [], PATIENCE_S)[0]
        triggers.read()
        assert triggers.paths == {path}
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def _hog(cpu: int) -> int:
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {cpu})
        while True:
            pass
    return child


@pytest.mark.parametrize(("some_us", "window_us"), [(0, 2_000_000), (2_000_001, 2_000_000), (1, 11_000_000)])
def test_trigger_when_the_kernel_refuses_then_false(triggers: Triggers, some_us: int, window_us: int) -> None:
    assert not triggers.add(Path("/proc/pressure/io"), some_us, window_us)
    assert len(triggers) == 0


def test_trigger_when_the_file_is_an_ordinary_one_then_false_and_left_alone(
    triggers: Triggers, tmp_path: Path
) -> None:
    fake = tmp_path / "cpu.pressure"
    fake.write_text("some total=1\n")
    assert not triggers.add(fake, 1)
    assert not triggers.add(tmp_path / "none", 1)
    assert fake.read_text() == "some total=1\n"


@pytest.mark.other_uid  # before Linux 6.5 only root may have a trigger
def test_triggers_when_nobody_waits_so_long_then_nothing(triggers: Triggers) -> None:
    assert triggers.add(Path("/proc/pressure/io"), 2_000_000)
    assert triggers.add(Path("/proc/pressure/memory"), 2_000_000)
    assert len(triggers) == 2
    assert not select.select([triggers.fileno()], [], [], 0)[0]


@pytest.mark.other_uid  # only root may make a group
def test_trigger_when_its_group_ends_then_it_fires_and_is_dropped(triggers: Triggers) -> None:
    mounts = [mount for mount in parse_mounts(Path("/proc/self/mountinfo").read_text()) if not mount.legacy]
    if not mounts or not os.access(mounts[0].point, os.W_OK):
        pytest.skip("no cgroup v2 that we may write")
    group = Path(mounts[0].point) / f"ktaskd-test-{os.getpid()}"
    group.mkdir()
    try:
        assert triggers.add(group / "cpu.pressure", 1)
    finally:
        group.rmdir()
    assert select.select([triggers.fileno()], [], [], PATIENCE_S)[0]
    triggers.read()
    assert len(triggers) == 0
