"""The service Jobs: one method for each method of the contract, and no rule of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ktask.v1 import jobs_pb2 as pb
from ktask.v1.jobs_pb2_grpc import JobsServicer

from ktaskd.api.convert import function_out, job_out, spec_in, states_in
from ktaskd.api.explain import story_out
from ktaskd.api.guard import Context, caller
from ktaskd.api.herald import Herald
from ktaskd.api.tracing import trace_in
from ktaskd.api.watch import follow
from ktaskd.governor.governor import Governor
from ktaskd.intake.check import check_labels
from ktaskd.intake.submit import Intake
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.job import Job
from ktaskd.jobs.quota import Quota, mebibytes
from ktaskd.jobs.registry import Query
from ktaskd.model.errors import FunctionUnknown, QuotaFull, SpecInvalid
from ktaskd.model.limits import LIST_PAGE_DEFAULT, LIST_PAGE_MAX, READ_BYTES, READ_TIMES
from ktaskd.model.trace import NO_TRACE

_Named = pb.GetRequest | pb.WatchRequest | pb.CancelRequest | pb.ExplainRequest

DEADLINE_SLACK_S = 0.25
"""The daemon may see a deadline pass this much later than the caller's own clock."""

LIST_BYTES = 768 * 1024
"""Largest page of jobs, whatever number was requested; a page always has at least one job."""

LIST_LOOKS = 5000
"""Jobs that one List examines. A page that found few of them still says where the next one begins."""


class JobsService(JobsServicer):
    """Converts, calls the engine, converts."""

    def __init__(self, engine: Engine, intake: Intake, governor: Governor) -> None:
        """Serve their jobs and functions."""
        self._engine = engine
        self._intake = intake
        self._governor = governor
        self._herald = Herald()
        self._reading = Quota(READ_BYTES, engine.registry.held, READ_TIMES)
        self._functions: dict[str, pb.Function] = {}

    async def Run(self, request: pb.RunRequest, context: Context) -> pb.RunResponse:
        """Submit, wait for the end, and cancel the job when the caller goes."""
        job, guards = await self._submit(request.spec, context, guarded=True)
        try:
            await self._wait_ended(job)
        finally:
            if guards:
                self._engine.unguard(job, cut=_why_cut(context))
        return pb.RunResponse(job=job_out(job))

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        """Accept a detached job."""
        job, _ = await self._submit(request.spec, context, guarded=False)
        return pb.SubmitResponse(job=job_out(job))

    async def _submit(self, spec: pb.JobSpec, context: Context, *, guarded: bool) -> tuple[Job, bool]:
        """Accept a job after a look at the machine, unless it was looked at a moment ago."""
        self._governor.renew()
        with self._read(spec.ByteSize()):
            asked, trace = await spec_in(spec), trace_in(context.invocation_metadata())
            if trace is not NO_TRACE:
                asked = replace(asked, trace=trace)
            accepted = await self._intake.submit(asked, caller(), guarded=guarded)
        self._governor.queued(self._engine.registry.unended > 0)
        return accepted

    @contextmanager
    def _read(self, size: int) -> Iterator[None]:
        """Count the memory that a request takes until it is a job: several times its size."""
        account, quota = caller().payer, self._reading
        if not quota.has_room(account, size):
            raise QuotaFull(
                f"requests: uid {caller().uid} has {mebibytes(quota.of(account))} of requests in progress, "
                f"and this one has {mebibytes(size)} (limit {mebibytes(quota.bound(account))}); "
                "send it again when some of them are answered"
            )
        quota.charge(account, size)
        try:
            yield
        finally:
            quota.charge(account, -size)
            self._engine.registry.on_freed(size * READ_TIMES)

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        """Return one job."""
        return pb.GetResponse(job=job_out(self._find(request)))

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Return one job with its history."""
        job = self._find(request)
        story = self._engine.stories.story(job)
        return pb.ExplainResponse(job=job_out(job, with_items=False), story=story_out(story))

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:
        """Ask a job to stop."""
        job = self._find(request)
        self._engine.cancel(job)
        return pb.CancelResponse(job=job_out(job))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        """Return a page of the caller's jobs, newest first."""
        check_labels("labels", request.labels)
        size = min(request.page_size or LIST_PAGE_DEFAULT, LIST_PAGE_MAX)
        query = Query(
            states_in(request.states),
            request.function,
            tuple(request.labels.items()),
            _page_in(request.page_token),
            size,
        )
        response, size_bytes, looked = pb.ListResponse(), 0, 0
        while True:
            page = self._engine.registry.look(query, caller())
            for job in page.jobs:
                message = job_out(job)
                size_bytes += message.ByteSize()
                if size_bytes > LIST_BYTES and response.jobs:
                    response.next_page_token = str(query.before_jno)
                    return response
                response.jobs.append(message)
                query = replace(query, before_jno=job.jno, limit=query.limit - 1)
                await asyncio.sleep(0)  # other callers are served in between
            looked += page.looked
            if not page.next_jno:
                return response
            query = replace(query, before_jno=page.next_jno)
            if not query.limit or looked >= LIST_LOOKS:
                response.next_page_token = str(page.next_jno)
                return response
            await asyncio.sleep(0)

    async def ListFunctions(
        self, request: pb.ListFunctionsRequest, context: Context
    ) -> pb.ListFunctionsResponse:
        """Return the functions that can be run."""
        functions = self._intake.functions
        if request.name and request.name not in functions:
            raise FunctionUnknown(f'name: no function "{request.name[:128]}" here', field="name")
        names = [request.name] if request.name else sorted(functions)
        for name in names:
            if name not in self._functions:  # they never change
                self._functions[name] = function_out(functions[name])
        return pb.ListFunctionsResponse(functions=[self._functions[name] for name in names])

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """Follow a job; the stream waits for its reader, the job does not."""
        job = self._find(request)
        if request.cancel_on_cut:
            self._engine.guard(job)
        try:
            async for response in follow(job, request.after_sequence, self._herald, caller().payer):
                yield response
        finally:
            if request.cancel_on_cut:
                self._engine.unguard(job, cut=_why_cut(context))

    async def _wait_ended(self, job: Job) -> None:
        if job.state.ended:
            return
        with self._herald.changes(job, caller().payer) as changed:
            while not job.state.ended:
                changed.clear()
                await changed.wait()

    def _find(self, request: _Named) -> Job:
        if bool(request.id) == bool(request.request_id):
            got = "both" if request.id else "neither"
            raise SpecInvalid(f"id, request_id: got {got}, wanted one of them", field="id")
        return self._engine.registry.find(request.id, request.request_id, caller())


def _why_cut(context: Context) -> str:
    """Return DEADLINE or CLIENT_GONE, since gRPC cancels a call in the same way for both.

    The caller's clock started when it sent the call, ours when the call arrived.
    """
    remaining = context.time_remaining()
    return "DEADLINE" if remaining is not None and remaining <= DEADLINE_SLACK_S else "CLIENT_GONE"


def _page_in(token: str) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdecimal() and len(token) < 20):
        raise SpecInvalid(
            f'page_token: got "{token[:64]}", wanted next_page_token of the previous answer',
            field="page_token",
        )
    return int(token)
