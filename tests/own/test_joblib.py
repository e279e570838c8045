"""joblib with our backend; joblib's own tests also run with it, see `joblibs`."""

from __future__ import annotations

import importlib
import os
import threading
import time
from pathlib import Path
from pickle import PicklingError
from typing import Any

import numpy as np
import pytest

from tests.own import things
from tests.support.real_daemon import until


def test_joblib_when_it_runs_again_then_by_the_same_executor(joblib: Any) -> None:
    backend = importlib.import_module("ktask.joblib")
    used = set()
    for _ in range(3):
        with joblib.parallel_config(backend="ktask", n_jobs=2):
            assert joblib.Parallel()(joblib.delayed(abs)(i) for i in range(5)) == list(range(5))
        used |= set(backend._IDLE)
    assert len(used) == 1


def test_joblib_when_runs_overlap_then_none_takes_anothers_workers(joblib: Any) -> None:
    found: list[list[int]] = []

    def run(count: int) -> None:
        for _ in range(5):
            with joblib.parallel_config(backend="ktask", n_jobs=count):
                found.append(joblib.Parallel()(joblib.delayed(abs)(i) for i in range(20)))

    threads = [threading.Thread(target=run, args=(count,)) for count in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(20))] * 10


def test_joblib_when_one_run_is_left_then_another_one_goes_on(joblib: Any, tmp_path: Path) -> None:
    def wait(i: int) -> int:
        (tmp_path / f"begun{i}").touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.005)
        return i

    left = joblib.Parallel(n_jobs=2, backend="ktask", return_as="generator")
    results = left(joblib.delayed(time.sleep)(1000) for _ in range(4))
    other = joblib.Parallel(n_jobs=2, backend="ktask", return_as="generator")
    found = other(joblib.delayed(wait)(i) for i in range(2))
    until((tmp_path / "begun0").exists, "the other run has begun")
    with pytest.warns(UserWarning, match="have been cancelled"):
        results.close()
    (tmp_path / "go").touch()
    assert list(found) == [0, 1]


def test_joblib_when_given_an_initializer_then_called(joblib: Any, tmp_path: Path) -> None:
    run = joblib.Parallel(
        n_jobs=2, backend="ktask", initializer=things.note_a_call, initargs=(str(tmp_path),)
    )
    assert run(joblib.delayed(abs)(i) for i in range(3)) == [0, 1, 2]
    assert list(tmp_path.iterdir())


def test_joblib_when_the_initializer_is_in_the_configuration_then_called(joblib: Any, tmp_path: Path) -> None:
    options = {"initializer": things.note_a_call, "initargs": (str(tmp_path),)}
    with joblib.parallel_config(backend="ktask", n_jobs=2, **options):
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(3))
    assert list(tmp_path.iterdir())


def test_joblib_when_threads_of_libraries_are_limited_then_tasks_find_the_limit(joblib: Any) -> None:
    for count in (1, 3):  # even if the workers are those of the last run
        with joblib.parallel_config(backend="ktask", n_jobs=2, inner_max_num_threads=count):
            found = joblib.Parallel()(joblib.delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(3))
        assert found == [str(count)] * 3


def test_joblib_when_threads_are_limited_then_a_blas_that_was_loaded_before_has_as_many(joblib: Any) -> None:
    """Workers have loaded numpy before they see a program, and so its variables."""

    def blas_threads() -> list[int]:
        threadpoolctl = importlib.import_module("threadpoolctl")
        return [library["num_threads"] for library in threadpoolctl.threadpool_info()]

    calls = [joblib.delayed(blas_threads)() for _ in range(3)]
    for count in (3, None):  # the second run has the workers of the first
        with joblib.parallel_config(backend="ktask", n_jobs=2, inner_max_num_threads=count):
            found = joblib.Parallel()(calls)
        assert found == [[count or 1]] * 3


def test_joblib_when_one_task_fails_then_the_others_are_not_waited_for(joblib: Any, tmp_path: Path) -> None:
    def task(i: int) -> None:
        if i == 0:
            while not (tmp_path / "begun").exists():
                time.sleep(0.005)
            raise ValueError("no")
        (tmp_path / "begun").touch()
        time.sleep(1000)

    with pytest.raises(ValueError, match="no"):
        joblib.Parallel(n_jobs=2, backend="ktask")(joblib.delayed(task)(i) for i in (0, 1))
    assert joblib.Parallel(n_jobs=2, backend="ktask")(joblib.delayed(abs)(i) for i in range(3)) == [0, 1, 2]


def test_joblib_when_there_is_one_job_then_the_program_does_it_itself(joblib: Any) -> None:
    run = joblib.Parallel(n_jobs=1, backend="ktask")
    assert set(run(joblib.delayed(things.pid_of)(i) for i in range(3))) == {os.getpid()}


def test_joblib_when_a_task_cannot_be_pickled_then_as_with_its_own_processes(joblib: Any) -> None:
    tasks = (joblib.delayed(abs)(one) for one in (things.WontPickle(), things.WontPickle()))
    with pytest.raises(PicklingError, match="Could not pickle the task") as caught:
        joblib.Parallel(n_jobs=2, backend="ktask")(tasks)
    assert "will not be pickled" in str(caught.value.__cause__)


# -- large arrays ----------------------------------------------------------------------


def test_joblib_when_an_array_is_large_then_all_tasks_map_the_one_file_and_it_is_gone_afterwards(
    joblib: Any, tmp_path: Path
) -> None:
    array = np.arange(100_000.0)
    run = joblib.Parallel(n_jobs=2, backend="ktask", max_nbytes=1000, temp_folder=tmp_path)
    found = run(joblib.delayed(things.seen_of)(array, i) for i in range(6))
    assert {kind for kind, _, _ in found} == {"memmap"}
    assert len({file for _, file, _ in found}) == 1
    assert Path(found[0][1]).is_relative_to(tmp_path)
    assert [value for _, _, value in found] == list(range(6))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", [{"max_nbytes": None}, {"max_nbytes": "1M"}, {"mmap_mode": None, "max_nbytes": 10}]
)
def test_joblib_when_an_array_is_not_to_be_mapped_then_pickled(
    joblib: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    run = joblib.Parallel(n_jobs=2, backend="ktask", temp_folder=tmp_path, **options)
    found = run(joblib.delayed(things.seen_of)(np.arange(1000), i) for i in range(2))
    assert [(kind, file) for kind, file, _ in found] == [("ndarray", "")] * 2


def test_joblib_when_a_task_returns_what_it_was_given_then_an_array_of_its_own(
    joblib: Any, tmp_path: Path
) -> None:
    array = np.arange(1000.0)
    run = joblib.Parallel(n_jobs=2, backend="ktask", max_nbytes=10, temp_folder=tmp_path)
    for result in run(joblib.delayed(things.same)(array) for _ in range(3)):
        assert type(result) is np.ndarray
        assert np.array_equal(result, array)


def test_joblib_when_a_task_with_a_mapped_array_fails_then_its_file_is_gone(
    joblib: Any, tmp_path: Path
) -> None:
    run = joblib.Parallel(n_jobs=2, backend="ktask", max_nbytes=10, temp_folder=tmp_path)
    with pytest.raises(ValueError, match="no such thing"):
        run(joblib.delayed(things.fail_with)(np.arange(1000)) for _ in range(4))
    assert not list(tmp_path.iterdir())
