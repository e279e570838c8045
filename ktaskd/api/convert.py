"""Converts the contract's messages to our types and back. No rule of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from google.protobuf import struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from ktask.v1 import jobs_pb2 as pb

from ktaskd.api.structs import struct_bytes
from ktaskd.intake.check import check_counts
from ktaskd.intake.names import Names
from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.jobs.slices import breathe, slices
from ktaskd.model.allowance import Reason
from ktaskd.model.errors import ArgumentInvalid, SpecInvalid
from ktaskd.model.function import Access, ArgValue, Declaration, Partial
from ktaskd.model.job import (
    CpuUsage,
    JobError,
    JobSpec,
    JobState,
    JobWarning,
    Progress,
    RangeSpec,
    SourceRef,
)
from ktaskd.model.spans import Span

STATES: Mapping[JobState, pb.JobState.ValueType] = {
    state: pb.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState
}
STATES_BACK = {value: state for state, value in STATES.items()}

_ACCESS: Mapping[Access, pb.Access.ValueType] = {
    Access.READ: pb.ACCESS_READ,
    Access.WRITE: pb.ACCESS_WRITE,
    Access.READ_WRITE: pb.ACCESS_READ_WRITE,
}
_PARTIAL: Mapping[Partial, pb.PartialPolicy.ValueType] = {
    Partial.RERUN_SAFE: pb.PARTIAL_POLICY_RERUN_SAFE,
    Partial.UNDO_TOLERATES: pb.PARTIAL_POLICY_UNDO_TOLERATES,
    Partial.NONE: pb.PARTIAL_POLICY_NONE,
}


# -- in ---------------------------------------------------------------------------


async def spec_in(spec: pb.JobSpec) -> JobSpec:
    """Convert a request's spec. Other calls proceed while a long list is read.

    Raises:
        SpecInvalid: a message in it has no content.
        LimitExceeded: a list in it is longer than its limit.
    """
    check_counts(spec)
    names = Names()
    sources = {
        role: SourceRef(source.handle, source.path, names.keep(source.name))
        for role, source in spec.sources.items()
    }
    items: list[SourceRef] = []
    known: dict[str, SourceRef] = {}
    for batch in slices(spec.items):
        for source in batch:
            ref = SourceRef(source.handle, source.path, names.keep(source.name))
            items.append(known.setdefault(ref.handle, ref) if ref.handle else ref)
        await breathe(after=len(batch))
    ranges: list[RangeSpec] = []
    for pieces in slices(spec.ranges):
        ranges += map(_range_in, pieces)
        await breathe(after=len(pieces))
    return JobSpec(
        function=sys.intern(spec.function),
        arg={name: _value_in(name, value) for name, value in spec.arg.fields.items()},
        sources=sources,
        items=tuple(items),
        ranges=tuple(ranges),
        min_chunk=spec.min_chunk,
        max_threads=spec.max_threads,
        undo=spec.undo if spec.HasField("undo") else None,
        labels=dict(spec.labels),
        request_id=spec.request_id,
    )


def _range_in(piece: pb.Range) -> RangeSpec:
    return RangeSpec(piece.start, piece.length, piece.nid if piece.HasField("nid") else None)


def _value_in(name: str, value: struct_pb2.Value) -> ArgValue:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return value.number_value
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    got = (kind or "nothing").removesuffix("_value")
    raise ArgumentInvalid(
        f'argument "{name[:64]}": got {got}, wanted a number, a string, true or false',
        field=f"spec.arg.{name[:64]}",
    )


def states_in(states: Iterable[int]) -> frozenset[JobState]:
    """Convert the states of a List request; raises SpecInvalid for an unknown one."""
    found = set()
    for state in states:
        if state not in STATES_BACK:
            raise SpecInvalid(f"states: got {state}, wanted a JobState", field="states")
        found.add(STATES_BACK[pb.JobState.ValueType(state)])
    return frozenset(found)


# -- out ----------------------------------------------------------------------------


def spec_out(spec: JobSpec) -> pb.JobSpec:
    """Convert a spec, as much of it as is remembered."""
    out = pb.JobSpec()
    _fill_spec(out, spec)
    return out


def _fill_spec(to_spec: pb.JobSpec, spec: JobSpec) -> None:
    """Convert a spec into an empty message."""
    to_spec.function, to_spec.request_id = spec.function, spec.request_id
    if spec.items:
        to_spec.items.extend(_source_out(item) for item in spec.items)
    if spec.ranges:
        to_spec.ranges.extend(
            pb.Range(start=one.start, length=one.length, nid=one.nid) for one in spec.ranges
        )
    to_spec.min_chunk, to_spec.max_threads = spec.min_chunk, spec.max_threads
    if spec.undo is not None:
        to_spec.undo = spec.undo
    if spec.labels:
        to_spec.labels.update(spec.labels)
    if spec.arg:
        to_spec.arg.MergeFromString(struct_bytes(spec.arg))
    to_spec.items_omitted, to_spec.ranges_omitted = spec.items_omitted, spec.ranges_omitted
    for role, source in spec.sources.items():
        to_spec.sources[role].CopyFrom(_source_out(source))


def _source_out(source: SourceRef) -> pb.Source:
    if source.handle:
        return pb.Source(handle=source.handle, name=source.name)
    return pb.Source(path=source.path, name=source.name)


def job_out(job: Job, *, with_items: bool = True) -> pb.Job:
    """Convert a job's present state.

    Args:
        with_items: include the results of items; False when they are sent one by one.
    """
    # Parts are filled in place: a message that is given to another's constructor is written and read again.
    out = pb.Job(
        id=job.id,
        state=STATES[job.state],
        detached=job.detached,
        sequence=job.version,
        warnings_omitted=job.watched.omitted,
        command=job.owner.command.text,
    )
    _fill_spec(out.spec, job.spec)
    _fill_progress(out.progress, view.progress(job))
    if (result := view.full_result(job) if with_items or not job.counts_items else None) is not None:
        out.result.SetInParent()
        out.result.MergeFromString(struct_bytes(result))
    if (error := view.full_error(job)) is not None:
        out.error.CopyFrom(error_out(error))
    out.waiting_reasons.extend(map(reason_out, view.waiting_reasons(job)))
    for stamp, seconds in (
        ("create_time", job.create_s),
        ("start_time", job.start_s),
        ("end_time", job.end_s),
    ):
        if seconds:
            _fill_time(getattr(out, stamp), seconds)
    _fill_cpu(out.cpu, view.cpu(job))
    owner = out.owner
    owner.SetInParent()
    owner.uid, owner.gid, owner.pid = job.owner.uid, job.owner.gid, job.owner.pid
    out.warnings.extend(map(_warning_out, job.watched.warnings))
    if job.state is not JobState.QUEUED:
        out.plan.SetInParent()
        out.plan.threads, out.plan.chunk = job.threads, job.plan.chunk
    return out


def _fill_progress(to_progress: pb.Progress, progress: Progress) -> None:
    to_progress.SetInParent()
    to_progress.positions_done, to_progress.positions_total = (
        progress.positions_done,
        progress.positions_total,
    )
    to_progress.bytes_done, to_progress.bytes_total = progress.bytes_done, progress.bytes_total
    to_progress.chunks_done, to_progress.chunks_total = progress.chunks_done, progress.chunks_total
    to_progress.running_helpers, to_progress.running_leads = progress.running_helpers, progress.running_leads


def _fill_cpu(to_cpu: pb.CpuUsage, cpu: CpuUsage) -> None:
    to_cpu.SetInParent()
    to_cpu.lead_seconds, to_cpu.helper_seconds = cpu.lead_s, cpu.helper_s
    to_cpu.chunks_recalled, to_cpu.chunks_rerun = cpu.chunks_recalled, cpu.chunks_rerun
    to_cpu.helpers_raised, to_cpu.chunks_run_twice = cpu.helpers_raised, cpu.chunks_run_twice


def _warning_out(warning: JobWarning) -> pb.JobWarning:
    return pb.JobWarning(code=warning.code, message=warning.message, source=warning.source, item=warning.item)


def error_out(error: JobError) -> pb.JobError:
    """Convert the error of a job."""
    out = pb.JobError(
        reason=error.reason,
        message=error.message,
        errno=error.errno,
        exception=error.exception,
        signal=error.signal,
        undone=_spans_out(error.undone),
        dirty=_spans_out(error.dirty),
        undone_omitted=error.undone_omitted,
        dirty_omitted=error.dirty_omitted,
        undone_hull=_span_out(error.undone_hull),
        dirty_hull=_span_out(error.dirty_hull),
    )
    if error.chunk is not None:
        out.chunk.CopyFrom(pb.ErrorChunk(start=error.chunk.start, end=error.chunk.end, nid=error.nid))
    return out


def _spans_out(spans: Iterable[Span]) -> list[pb.Span]:
    return [pb.Span(start=span.start, end=span.end) for span in spans]


def _span_out(span: Span | None) -> pb.Span | None:
    return None if span is None else pb.Span(start=span.start, end=span.end)


def reason_out(reason: Reason) -> pb.Reason:
    """Convert a reason why fewer workers run."""
    return pb.Reason(
        code=reason.code,
        message=reason.message,
        value=reason.value,
        threshold=reason.threshold,
        since=time_out(reason.since_s),
    )


def time_out(seconds: float) -> Timestamp | None:
    """Convert seconds since the epoch; 0 = it has not happened."""
    if not seconds:
        return None
    out = Timestamp()
    _fill_time(out, seconds)
    return out


def _fill_time(out: Timestamp, seconds: float) -> None:
    out.seconds, out.nanos = divmod(int(seconds * 1e9), 10**9)


def function_out(declaration: Declaration) -> pb.Function:
    """Convert the declaration of a function."""
    return pb.Function(
        name=declaration.name,
        summary=declaration.summary,
        sources=[
            pb.FunctionSource(role=source.role, access=_ACCESS[source.access], summary=source.summary)
            for source in declaration.sources
        ],
        unit=declaration.unit,
        align=declaration.align,
        min_chunk=declaration.min_chunk,
        arguments=[
            pb.FunctionArgument(
                name=argument.name,
                type=argument.type.value,
                default=_default_out(argument.default),
                summary=argument.summary,
                minimum=_default_out(argument.minimum),
                maximum=_default_out(argument.maximum),
                choices=argument.choices,
            )
            for argument in declaration.arguments
        ],
        allocates=declaration.allocates,
        partial=_PARTIAL[declaration.partial],
        undo=declaration.undo,
        undo_summary=declaration.undo_summary,
        combine=declaration.combine,
        boundary=declaration.boundary,
        items=declaration.items,
        unavailable=declaration.unavailable,
        record=declaration.record,
        whole_files=declaration.whole_files,
    )


def _default_out(value: ArgValue | None) -> struct_pb2.Value | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, int) and abs(value) > 2**53:
        return struct_pb2.Value(string_value=str(value))
    return struct_pb2.Value(number_value=value)
