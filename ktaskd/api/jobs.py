"""The service Jobs: one method for each of the contract's, no rule of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from ktask.v1 import jobs_pb2 as pb
from ktask.v1.jobs_pb2_grpc import JobsServicer

from ktaskd.api.convert import function_out, job_out, spec_in, states_in, struct_out
from ktaskd.api.guard import Context, caller
from ktaskd.governor.governor import Governor
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.intake import Intake
from ktaskd.jobs.job import Job
from ktaskd.jobs.registry import Query
from ktaskd.model.errors import FunctionUnknown, SpecInvalid
from ktaskd.model.limits import LIST_PAGE_DEFAULT, LIST_PAGE_MAX

PROGRESS_S = 0.1
"""Shortest time between two messages of a watch that tell nothing but progress."""

RESULTS_PER_MESSAGE = 1000

DEADLINE_SLACK_S = 0.25
"""How much later than the caller's own clock ours may see a deadline pass."""

LIST_BYTES = 1024 * 1024
"""A page of jobs is at most this large, whatever number was asked for, or one job."""


@contextmanager
def changes(job: Job) -> Iterator[asyncio.Event]:
    """An event that is set at every change of the job."""
    event = asyncio.Event()
    job.watchers.add(event.set)
    try:
        yield event
    finally:
        job.watchers.discard(event.set)


class JobsService(JobsServicer):
    """Converts, calls the engine, converts."""

    def __init__(self, engine: Engine, intake: Intake, governor: Governor) -> None:
        """Serve what they know."""
        self._engine = engine
        self._intake = intake
        self._governor = governor

    async def Run(self, request: pb.RunRequest, context: Context) -> pb.RunResponse:
        """Submit, wait for the end, and cancel the job when the caller goes."""
        job, guards = await self._submit(request.spec, guarded=True)
        try:
            await _wait_ended(job)
        finally:
            if guards:
                self._engine.unguard(job, cut=_why_cut(context))
        return pb.RunResponse(job=job_out(job))

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        """Accept a detached job."""
        job, _ = await self._submit(request.spec, guarded=False)
        return pb.SubmitResponse(job=job_out(job))

    async def _submit(self, spec: pb.JobSpec, *, guarded: bool) -> tuple[Job, bool]:
        """Accept a job for the machine as it is now, which an idle daemon does not follow."""
        self._governor.refresh()
        accepted = await self._intake.submit(spec_in(spec), caller(), guarded=guarded)
        self._governor.queued(self._engine.registry.unended > 0)
        return accepted

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        """One job as it is."""
        return pb.GetResponse(job=job_out(self._find(request)))

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:
        """Ask a job to stop."""
        job = self._find(request)
        self._engine.cancel(job)
        return pb.CancelResponse(job=job_out(job))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        """A page of the caller's jobs, newest first."""
        size = min(request.page_size or LIST_PAGE_DEFAULT, LIST_PAGE_MAX)
        query = Query(
            states_in(request.states),
            request.function,
            tuple(request.labels.items()),
            _page_in(request.page_token),
            size,
        )
        jobs = self._engine.registry.page(query, caller())
        response, size_bytes = pb.ListResponse(), 0
        for job in jobs:
            told = job_out(job)
            size_bytes += told.ByteSize()
            if size_bytes > LIST_BYTES and response.jobs:
                break
            response.jobs.append(told)
            await asyncio.sleep(0)  # others are served in between
        if len(response.jobs) == size or len(response.jobs) < len(jobs):
            response.next_page_token = str(jobs[len(response.jobs) - 1].jno)
        return response

    async def ListFunctions(
        self, request: pb.ListFunctionsRequest, context: Context
    ) -> pb.ListFunctionsResponse:
        """What can be run."""
        functions = self._intake.functions
        if request.name and request.name not in functions:
            raise FunctionUnknown(f'name: no function "{request.name[:128]}" here', field="name")
        names = [request.name] if request.name else sorted(functions)
        return pb.ListFunctionsResponse(functions=[function_out(functions[name]) for name in names])

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """Follow a job; the stream waits for its reader, the job does not."""
        job = self._find(request)
        if request.cancel_on_cut:
            self._engine.guard(job)
        try:
            async for response in _follow(job, request.after_sequence):
                yield response
        finally:
            if request.cancel_on_cut:
                self._engine.unguard(job, cut=_why_cut(context))

    def _find(self, request: pb.GetRequest | pb.WatchRequest | pb.CancelRequest) -> Job:
        if bool(request.id) == bool(request.request_id):
            got = "both" if request.id else "neither"
            raise SpecInvalid(f"id, request_id: got {got}, wanted one of them", field="id")
        return self._engine.registry.find(request.id, request.request_id, caller())


async def _wait_ended(job: Job) -> None:
    with changes(job) as changed:
        while not job.state.ended:
            changed.clear()
            await changed.wait()


def _why_cut(context: Context) -> str:
    """DEADLINE or CLIENT_GONE: a cut is told in the same way for both.

    A caller's own clock started when it sent the call, ours when we got it.
    """
    remaining = context.time_remaining()
    return "DEADLINE" if remaining is not None and remaining <= DEADLINE_SLACK_S else "CLIENT_GONE"


async def _follow(job: Job, after: int) -> AsyncIterator[pb.WatchResponse]:
    """Snapshot, changes, ordered results, final.

    One message is made at a time: nothing is queued for a slow reader.
    """
    results_i = 0
    with changes(job) as changed:
        while True:
            changed.clear()
            results, results_i = _results_after(job, results_i, after)
            final = job.state.ended and results_i == len(job.item_results)
            yield pb.WatchResponse(sequence=job.version, job=job_out(job), results=results, final=final)
            if final:
                return
            if results_i == len(job.item_results):
                await _next_message(job, changed)


async def _next_message(job: Job, changed: asyncio.Event) -> None:
    """Wait for a change, or for progress that is worth telling."""
    while True:
        before = job.progress
        try:
            timeout = PROGRESS_S if job.crew.busy else None
            await asyncio.wait_for(changed.wait(), timeout)
            return
        except TimeoutError:
            if job.progress != before:
                return


def _results_after(job: Job, index: int, after: int) -> tuple[list[pb.ItemResult], int]:
    """Results from `index` on that are newer than a sequence, at most one message full."""
    found: list[pb.ItemResult] = []
    while index < len(job.item_results) and len(found) < RESULTS_PER_MESSAGE:
        version, position, result = job.item_results[index]
        index += 1
        if version > after:
            found.append(pb.ItemResult(index=position, result=struct_out(result)))
    return found, index


def _page_in(token: str) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdecimal() and len(token) < 20):
        raise SpecInvalid(
            f'page_token: got "{token[:64]}", wanted next_page_token of the answer before', field="page_token"
        )
    return int(token)
