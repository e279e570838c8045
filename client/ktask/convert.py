"""Converts messages of the contract to the dataclasses of this package. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

# Whole modules, so that the command loads only those that it uses.
from ktask import declarations, results
from ktask import status as records
from ktask.v1 import jobs_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct, Value
    from google.protobuf.timestamp_pb2 import Timestamp

    from ktask.v1 import control_pb2 as control

# A newer daemon may send states that this version has no name for.
_STATES: Mapping[int, results.JobState] = {
    number: results.JobState(name.removeprefix("JOB_STATE_")) for name, number in pb.JobState.items()
}


def job_state(number: int) -> results.JobState:
    """The state with this number in the contract."""
    return _STATES.get(number, results.JobState.UNSPECIFIED)


def plain(struct: Struct) -> dict[str, Any]:
    """A Struct as a dict. Whole numbers become int, since JSON has only one type of number."""
    return {name: plain_value(value) for name, value in struct.fields.items()}


def plain_value(value: Value) -> Any:
    """One value of a Struct."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return plain(value.struct_value)
    if kind == "list_value":
        return [plain_value(one) for one in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def job(message: pb.Job) -> results.Job:
    """A job."""
    return results.Job(
        id=message.id,
        spec=_spec(message.spec),
        state=job_state(message.state),
        progress=_progress(message.progress),
        result=plain(message.result) if message.HasField("result") else None,
        error=_error(message.error) if message.HasField("error") else None,
        waiting_reasons=tuple(_reason(one) for one in message.waiting_reasons),
        create_time=_time(message, "create_time"),
        start_time=_time(message, "start_time"),
        end_time=_time(message, "end_time"),
        cpu=_cpu(message.cpu),
        owner=results.Owner(message.owner.uid, message.owner.gid, message.owner.pid),
        detached=message.detached,
        plan=results.Plan(message.plan.threads, message.plan.chunk) if message.HasField("plan") else None,
        sequence=message.sequence,
        warnings=tuple(_warning(one) for one in message.warnings),
        warnings_omitted=message.warnings_omitted,
        command=message.command,
    )


def story(message: pb.Story) -> results.Story:
    """The history of a job."""
    return results.Story(
        moments=tuple(_moment(one) for one in message.moments),
        causes=tuple(
            results.Cause(one.code, one.message, one.value, one.threshold, one.seconds)
            for one in message.causes
        ),
        limit=message.limit,
        threads=message.threads,
        step_seconds=message.step_seconds,
    )


def _moment(message: pb.Moment) -> results.Moment:
    return results.Moment(
        seconds=message.seconds,
        state=job_state(message.state),
        helpers=message.helpers,
        leads=message.leads,
        causes=tuple(message.causes),
        chunks_recalled=message.chunks_recalled,
        merged=message.merged,
    )


def _warning(message: pb.JobWarning) -> results.JobWarning:
    item = message.item if message.HasField("item") else None
    return results.JobWarning(message.code, message.message, message.source, item)


def update(message: pb.WatchResponse) -> results.Update:
    """One message of a watch."""
    found = tuple(results.ItemResult(one.index, plain(one.result)) for one in message.results)
    return results.Update(message.sequence, job(message.job), found, message.final)


def _spec(message: pb.JobSpec) -> results.JobSpec:
    return results.JobSpec(
        function=message.function,
        arg=plain(message.arg),
        sources={role: _source(source) for role, source in message.sources.items()},
        items=tuple(_source(item) for item in message.items),
        ranges=tuple(
            results.Range(one.start, one.length, one.nid if one.HasField("nid") else None)
            for one in message.ranges
        ),
        min_chunk=message.min_chunk,
        max_threads=message.max_threads,
        undo=message.undo if message.HasField("undo") else None,
        labels=dict(message.labels),
        request_id=message.request_id,
        items_omitted=message.items_omitted,
        ranges_omitted=message.ranges_omitted,
    )


def _source(message: pb.Source) -> results.SourceName:
    return results.SourceName(handle=message.handle, path=message.path, name=message.name)


def _progress(message: pb.Progress) -> results.Progress:
    return results.Progress(
        positions_done=message.positions_done,
        positions_total=message.positions_total,
        bytes_done=message.bytes_done,
        bytes_total=message.bytes_total,
        chunks_done=message.chunks_done,
        chunks_total=message.chunks_total,
        running_helpers=message.running_helpers,
        running_leads=message.running_leads,
    )


def _error(message: pb.JobError) -> results.JobError:
    chunk = message.chunk if message.HasField("chunk") else None
    return results.JobError(
        reason=message.reason,
        message=message.message,
        chunk=results.Span(chunk.start, chunk.end) if chunk is not None else None,
        nid=chunk.nid if chunk is not None else -1,
        errno=message.errno,
        exception=message.exception,
        signal=message.signal,
        undone=_spans(message.undone),
        dirty=_spans(message.dirty),
        undone_omitted=message.undone_omitted,
        dirty_omitted=message.dirty_omitted,
        undone_hull=_span(message.undone_hull) if message.HasField("undone_hull") else None,
        dirty_hull=_span(message.dirty_hull) if message.HasField("dirty_hull") else None,
    )


def _spans(messages: Iterable[pb.Span]) -> tuple[results.Span, ...]:
    return tuple(map(_span, messages))


def _span(message: pb.Span) -> results.Span:
    return results.Span(message.start, message.end)


def _reason(message: pb.Reason) -> results.Reason:
    since = _time(message, "since")
    return results.Reason(message.code, message.message, message.value, message.threshold, since)


def _cpu(message: pb.CpuUsage) -> results.CpuUsage:
    return results.CpuUsage(
        lead_seconds=message.lead_seconds,
        helper_seconds=message.helper_seconds,
        chunks_recalled=message.chunks_recalled,
        chunks_rerun=message.chunks_rerun,
        helpers_raised=message.helpers_raised,
        chunks_run_twice=message.chunks_run_twice,
    )


def _time(message: pb.Job | pb.Reason | control.Status, field: str) -> datetime | None:
    if not message.HasField(field):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(message, field)
    return datetime.fromtimestamp(stamp.seconds, UTC).replace(microsecond=stamp.nanos // 1000)


def function(message: pb.Function) -> declarations.Function:
    """The declaration of a thread function."""
    return declarations.Function(
        name=message.name,
        summary=message.summary,
        sources=tuple(
            declarations.SourceRole(one.role, _name(pb.Access, one.access, "ACCESS_"), one.summary)
            for one in message.sources
        ),
        unit=message.unit,
        align=message.align,
        min_chunk=message.min_chunk,
        arguments=tuple(_argument(one) for one in message.arguments),
        allocates=message.allocates,
        partial=_name(pb.PartialPolicy, message.partial, "PARTIAL_POLICY_"),
        undo=message.undo,
        undo_summary=message.undo_summary,
        combine=message.combine,
        boundary=message.boundary,
        items=message.items,
        unavailable=message.unavailable,
        record=message.record,
        whole_files=message.whole_files,
    )


def _argument(message: pb.FunctionArgument) -> declarations.Argument:
    default, minimum, maximum = (
        plain_value(getattr(message, name)) if message.HasField(name) else None
        for name in ("default", "minimum", "maximum")
    )
    return declarations.Argument(
        message.name, message.type, default, message.summary, minimum, maximum, tuple(message.choices)
    )


def _name(enum: Any, number: int, prefix: str) -> str:
    """Name of an enum value without its prefix; its number if it has no name."""
    value = enum.DESCRIPTOR.values_by_number.get(number)
    return value.name.removeprefix(prefix) if value else str(number)


def status(message: control.Status) -> records.Status:
    """The daemon's status."""
    # Loaded only here, so that running a job does not take the time.
    from ktask.v1 import control_pb2

    return records.Status(
        version=message.version,
        pid=message.pid,
        start_time=_time(message, "start_time"),
        mode=_name(control_pb2.Mode, message.mode, "MODE_"),
        draining=message.draining,
        nodes=tuple(records.Node(one.nid, one.cpulist, one.memory_bytes) for one in message.topology.nodes),
        cpulist=message.topology.cpulist,
        pools=tuple(_pool(one, control_pb2) for one in message.pools),
        allowance=_allowance(message.allowance, control_pb2),
        limits={one.name: one.value for one in message.limits},
        counters={one.name: one.value for one in message.counters},
        missing=tuple(message.missing),
        runtime_dir=message.runtime_dir,
        raising=tuple(message.raising),
        selftest=message.selftest,
        mode_until=_time(message, "mode_until"),
        readings=tuple(records.Reading(one.name, one.value, one.source) for one in message.readings),
    )


def _allowance(message: control.Allowance, contract: Any) -> records.Allowance:
    return records.Allowance(
        nodes=tuple(records.NodeAllowance(one.nid, one.helpers, one.busy) for one in message.nodes),
        leads=message.leads,
        leads_per_uid=message.leads_per_uid,
        reasons=tuple(_reason(one) for one in message.reasons),
        level=_name(contract.Level, message.level, "LEVEL_"),
        share=message.share or 1.0,
    )


def _pool(message: control.Pool, contract: Any) -> records.Pool:
    return records.Pool(
        name=message.name,
        worker_class=_name(contract.WorkerClass, message.worker_class, "WORKER_CLASS_"),
        nid=message.nid,
        host_pid=message.host_pid,
        workers=tuple(_worker(one, contract) for one in message.workers),
        host_respawns=message.host_respawns,
    )


def _worker(message: control.Worker, contract: Any) -> records.Worker:
    return records.Worker(
        id=message.id,
        pid=message.pid,
        state=_name(contract.WorkerState, message.state, "WORKER_STATE_"),
        cpulist=message.cpulist,
        policy=message.policy,
        nice=message.nice,
        ioprio=message.ioprio,
        oom_score_adj=message.oom_score_adj,
        autogroup_nice=message.autogroup_nice if message.HasField("autogroup_nice") else None,
        cgroup=message.cgroup,
        mempolicy=message.mempolicy,
        missing=tuple(message.missing),
        job_id=message.job_id,
        chunks=message.chunks,
        respawns=message.respawns,
        private_bytes=message.private_bytes,
        uid=message.uid,
        gives_way_by=message.gives_way_by,
        raised=message.raised,
        gave_up=tuple(message.gave_up),
    )
