"""A copy gives its target the length of its source, and its old length back.

Tests: ktaskd/functions/files/filecopy.py
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from tests.functions.inprocess import (
    PAGE,
    Recorder,
    context_of,
    fit,
    opened,
    prepare,
    seal,
)

BODY = find("file.copy")

layouts = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=6)
"""Positions of data, as (page, number of pages)."""


def test_prepare_when_one_file_is_both_then_refused(tmp_path: Path) -> None:
    with opened("file", tmp_path) as src, pytest.raises(OSError, match="same file"):
        prepare(BODY, context_of((0, 0), src=src, dst=src))


def test_prepare_when_src_is_too_short_then_refused_and_dst_is_as_before(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="src") as src, opened("file", tmp_path) as dst:
        with pytest.raises(OSError, match="the job needs bytes up to"):
            prepare(BODY, context_of((0, 10), src=src, dst=dst))
        assert os.fstat(dst.fd).st_size == 0


def test_prepare_when_dst_may_not_grow_then_the_error_says_so(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="src") as src, opened("memfd", tmp_path) as dst:
        os.ftruncate(src.fd, 2 * PAGE)
        os.ftruncate(dst.fd, PAGE)
        fcntl.fcntl(dst.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        seal(dst)
        with pytest.raises(OSError, match=r'"dst": cannot grow from 4096 to 8192 bytes: it is sealed'):
            prepare(BODY, context_of((0, 2 * PAGE), src=src, dst=dst))


def test_prepare_when_dst_would_have_to_shrink_and_may_not_then_refused(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="src") as src, opened("sealed", tmp_path) as dst:
        os.ftruncate(src.fd, PAGE)
        fit(dst, "sealed", 2 * PAGE)
        with pytest.raises(OSError, match="cannot be cut from 8192 to 4096"):
            prepare(BODY, context_of((0, PAGE), whole=True, src=src, dst=dst))
        prepare(BODY, context_of((0, PAGE), src=src, dst=dst))


@pytest.mark.parametrize("size", [PAGE, 3 * PAGE])
def test_finish_when_src_changed_its_length_then_an_error(size: int, tmp_path: Path) -> None:
    with opened("file", tmp_path, name="src") as src, opened("file", tmp_path) as dst:
        os.ftruncate(src.fd, 2 * PAGE)
        context = context_of((0, 2 * PAGE), whole=True, src=src, dst=dst)
        prepared = prepare(BODY, context)
        os.ftruncate(src.fd, size)
        with pytest.raises(OSError, match=f"from 8192 to {size} bytes") as caught:
            BODY.finish(context, prepared, Recorder())
        assert caught.value.errno == errno.ESTALE


def test_restore_when_somebody_else_changed_the_length_then_it_stays(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="src") as src, opened("file", tmp_path) as dst:
        os.ftruncate(src.fd, 2 * PAGE)
        context = context_of((0, 2 * PAGE), whole=True, src=src, dst=dst)
        prepared = prepare(BODY, context)
        os.ftruncate(dst.fd, 3 * PAGE)
        BODY.restore(context, prepared)
        assert os.fstat(dst.fd).st_size == 3 * PAGE
