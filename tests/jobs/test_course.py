"""A job of one chunk takes one message to its worker and one back, where the function allows that."""

from __future__ import annotations

import random
import zlib
from collections import deque
from typing import Any

import pytest

from ktaskd.functions import bodies
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.jobs import view
from ktaskd.jobs.course import _only_result
from ktaskd.model.job import JobSpec
from ktaskd.pool.link import Worker
from tests.functions.inprocess import context_of
from tests.jobs.realjobs import MIB, real_jobs, run

CONTENT = random.Random(2).randbytes(3 * MIB)

RESULTS: dict[str, dict[str, Any]] = {
    "file.crc32": {"crc32": 7, "bytes": 9},
    "file.crc32c": {"crc32c": 7, "bytes": 9},
    "file.compare": {"equal": False, "first_difference": 4, "bytes": 5},
}


@pytest.mark.parametrize(("size", "min_chunk", "single"), [(MIB, 0, True), (len(CONTENT), 100_000, False)])
def test_job_when_it_has_one_chunk_then_no_worker_combines_its_result(
    size: int, min_chunk: int, single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[object] = []
    send = Worker.send_step

    def noted(worker: Worker, *words: Any) -> int:
        steps.append(words)
        return send(worker, *words)

    monkeypatch.setattr(Worker, "send_step", noted)

    async def story() -> None:
        async with real_jobs() as h:
            source = h.memory(CONTENT[:size])
            spec = JobSpec("file.crc32", sources={"data": source.ref}, min_chunk=min_chunk)
            job = await h.run(spec, waited=True)
            assert view.full_result(job) == {"crc32": zlib.crc32(CONTENT[:size]), "bytes": size}
            assert (view.progress(job).chunks_done == 1, not steps) == (single, single)

    run(story())


def test_functions_when_single_then_a_combined_result_is_the_result_of_the_chunk() -> None:
    known = {name for name, declaration in CATALOGUE.items() if declaration.single}
    assert known == RESULTS.keys()
    for name, result in RESULTS.items():
        assert CATALOGUE[name].combine
        assert bodies.find(name).combine(context_of((0, 9)), [result]) == result


@pytest.mark.parametrize("parts", [(), (b"{}", b"{}"), (b"[1]",), (b"not json",)])
def test_result_when_there_is_not_just_one_object_then_a_worker_combines(parts: tuple[bytes, ...]) -> None:
    assert _only_result(deque(parts)) is None
