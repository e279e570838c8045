"""Libraries that do not know ktask use its executor: callbacks, asyncio, dask."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import ktask
import numpy as np
import pytest

from tests.arch.tree import REPOSITORY
from tests.own import things
from tests.support.real_daemon import until


def test_callback_when_it_submits_then_that_is_done_too(executor: ktask.Executor) -> None:
    second: list[Future[int]] = []
    first = executor.submit(things.square, 2)
    first.add_done_callback(lambda future: second.append(executor.submit(things.square, future.result())))
    until(lambda: bool(second), "the callback was called")
    assert second[0].result() == 16


def test_asyncio_when_run_in_executor_then_awaited(executor: ktask.Executor) -> None:
    async def story() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, things.square, i) for i in range(10)))

    assert asyncio.run(story()) == [i * i for i in range(10)]


@pytest.mark.parametrize("core", ["", "Prescott"])
def test_dask_when_computed_with_it_then_the_same_as_with_its_own_pool(
    executor: ktask.Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core: str
) -> None:
    """Bit for bit, even if the program uses another OpenBLAS kernel than workers do by default."""
    if core:
        monkeypatch.setenv("OPENBLAS_CORETYPE", core)
    dask = importlib.import_module("dask")
    (ours,) = dask.compute(things.graph(), scheduler=executor)
    code = (
        "import dask, numpy\n"
        "from tests.own import things\n"
        "if __name__ == '__main__':\n"
        "    (found,) = dask.compute(things.graph(), scheduler='processes')\n"
        "    numpy.savez('theirs.npz', **found)\n"
    )
    # One thread as in our workers: with more, BLAS adds in another order.
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    (tmp_path / "program.py").write_text(code)
    subprocess.run([sys.executable, "program.py"], check=True, cwd=tmp_path, env=environ)
    with np.load(tmp_path / "theirs.npz") as theirs:
        assert set(theirs) == set(ours) == {"cov", "std", "top"}
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
