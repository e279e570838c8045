"""The two log lines of a job, which no client can forge."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ktaskd.daemon.journal import fields_of
from ktaskd.model.job import JobError, JobSpec, JobState
from ktaskd.model.trace import Trace
from tests.jobs.realjobs import real_jobs
from tests.jobs.simulated import Simulation, play

TRACE = Trace("a" * 32, "b" * 16, "vendor=1")
CONTENT = bytes(range(256)) * 40
FORGED = 'x" state=succeeded\n2026-01-01 INFO ktaskd job_ended job=0 \x1b[2J \u2028 \u202e \x85 \\'


def fields(caplog: pytest.LogCaptureFixture, event: str) -> dict[str, str]:
    (record,) = (one for one in caplog.records if one.getMessage().startswith(f"{event} "))
    assert record.getMessage().isprintable()
    return {key.removeprefix("KTASKD_").lower(): value for key, value in fields_of(record).items()}


def test_lines_when_a_job_runs_then_one_at_its_start_and_one_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "ktaskd.jobs.joblines")

    async def story() -> None:
        async with real_jobs() as h:
            job = await h.submit(JobSpec("file.crc32", sources={"data": h.memory(CONTENT).ref}, trace=TRACE))
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED
            await asyncio.sleep(0)

    asyncio.run(story())
    begun, ended = fields(caplog, "job_started"), fields(caplog, "job_ended")
    for line in (begun, ended):
        assert (line["trace_id"], line["span_id"]) == (TRACE.trace_id, TRACE.span_id)
        assert line["function"] == "file.crc32"
        assert line["job"] == begun["job"]
        assert line["bytes"] == str(len(CONTENT))
    assert begun["trace_state"] == "vendor=1"
    assert ended["state"] == "succeeded"
    assert ended["reason"] == ended["error"] == ""
    assert float(ended["cpu_s"]) >= float(ended["lead_cpu_s"]) >= 0
    assert int(ended["workers"]) >= 1


def test_lines_when_the_client_forges_then_each_stays_one_line_with_its_own_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "ktaskd.jobs.joblines")

    async def story(sim: Simulation) -> None:
        job = sim.submit(total=64)
        job.owner.command.text = FORGED
        sim.engine.stop(job, JobError("FUNCTION_ERROR", FORGED * 10))
        await asyncio.sleep(1000)

    play(story)
    line = fields(caplog, "job_ended")
    assert line["state"] == "failed"
    assert line["reason"] == "FUNCTION_ERROR"
    (text,) = (one.getMessage() for one in caplog.records if one.getMessage().startswith("job_ended"))
    command: Any = text.split(' command="')[1]
    assert command.startswith(r"x\" state=succeeded\n2026-01-01 INFO ktaskd job_ended job=0 \u001b[2J \u2028")
    assert text.endswith('..."')
