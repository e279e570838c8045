"""The functions for self-tests, as far as they can run in the test's own process."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from ktaskd.functions.bodies import find
from ktaskd.functions.catalogue import CATALOGUE
from tests.functions.inprocess import Recorder, content, context_of, opened


def test_spin_when_run_then_it_burns_that_much_cpu() -> None:
    before = time.thread_time_ns()
    context = context_of((0, 3), arg={"ms": 4.0})
    assert find("selftest.spin").run(context, 0, 3, Recorder()) == (3, None)
    assert time.thread_time_ns() - before >= 12_000_000


def test_spin_when_ms_is_0_then_it_still_looks_at_every_position() -> None:
    control = Recorder()
    find("selftest.spin").run(context_of((0, 5), arg={"ms": 0.0}), 0, 5, control)
    assert control.positions == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("at", "fails"), [(4, False), (5, True), (9, True), (10, False)])
def test_fail_when_the_position_is_in_the_chunk_then_only_that_chunk_fails(at: int, fails: bool) -> None:
    context = context_of((0, 20), arg={"at": at, "errno": errno.ENOSPC})
    if not fails:
        assert find("selftest.fail").run(context, 5, 10, Recorder()) == (10, None)
        return
    with pytest.raises(OSError) as caught:
        find("selftest.fail").run(context, 5, 10, Recorder())
    assert caught.value.errno == errno.ENOSPC


def test_undo_log_when_done_and_undone_then_both_can_be_read(tmp_path: Path) -> None:
    arg = {
        item.name: item.default
        for item in CATALOGUE["selftest.undo_log"].arguments
        if item.default is not None
    }
    body = find("selftest.undo_log")
    with opened("file", tmp_path) as source:
        os.ftruncate(source.fd, 10)
        context = context_of((0, 10), arg=arg, data=source)
        assert body.run(context, 2, 8, Recorder()) == (8, None)
        assert body.run(context, 8, 10, Recorder(stop_after=1)) == (9, None)
        assert body.undo(context, 3, 5, [], Recorder()) == []
        assert content(source) == bytes([0, 0, 1, 17, 17, 1, 1, 1, 1, 0])
        with pytest.raises(OSError, match="the job needs bytes up to"):
            body.run(context, 0, 11, Recorder())
