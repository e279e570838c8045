"""Formats jobs, functions and the status for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ktask.cli.clients import format_command, format_files
from ktask.cli.escaping import printable
from ktask.errors import describe_failure

if TYPE_CHECKING:
    from ktask.declarations import Argument, Function
    from ktask.results import CpuUsage, Job, Reason
    from ktask.status import Allowance, Pool, Status, Worker

LEVELS = {
    "RUN": "all helpers run",
    "FEWER": "fewer helpers",
    "LEADS_ONLY": "no helpers",
    "PAUSED": "no helpers, detached jobs wait",
}

_SHORT = 8
"""Characters of a shortened id."""

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_bytes(count: int) -> str:
    """A number of bytes with a binary unit, such as "1.5 GiB"."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_BYTE_UNITS[unit]}"


def format_duration(seconds: float) -> str:
    """A duration such as "0.25 s", "12 s", "3 min 5 s" or "2 h 3 min"."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_time(when: datetime | None) -> str:
    """A point in time as local time; "-" for None."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S") if when else "-"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [list(heads), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fields(pairs: Iterable[tuple[str, object]]) -> str:
    """One "name: value" a line; those without a value are left out."""
    kept = [(name, printable(str(value))) for name, value in pairs if value not in ("", None)]
    width = max((len(name) for name, _ in kept), default=0) + 1
    return "\n".join(f"{name + ':':<{width}} {value}" for name, value in kept)


def format_result(result: Mapping[str, Any] | None) -> str:
    """The result of a job: one line for each value, and for each of its items."""
    lines = []
    for name, value in sorted((result or {}).items()):
        if name == "items" and isinstance(value, list):
            lines += [f"{i}: {format_value(item)}" for i, item in enumerate(value)]
        else:
            lines.append(f"{printable(name)}: {format_value(value)}")
    return "\n".join(lines)


def format_value(value: Any) -> str:
    """One value of a result or an argument."""
    if isinstance(value, Mapping):
        return " ".join(f"{printable(name)}={format_value(one)}" for name, one in sorted(value.items()))
    if isinstance(value, list):
        return ", ".join(map(format_value, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(str(value))


def describe_job(job: Job) -> str:
    """All details of a job."""
    spec, progress = job.spec, job.progress
    pairs: list[tuple[str, object]] = [
        ("id", job.id),
        ("function", spec.function),
        ("state", job.state),
        ("owner", f"uid {job.owner.uid}, pid {job.owner.pid}"),
        ("command", job.command),
        ("detached", "yes" if job.detached else ""),
        ("arguments", format_value(spec.arg)),
        *(
            (f"source {role}", source.name or source.path or f"handle {source.handle}")
            for role, source in spec.sources.items()
        ),
        ("items", _format_items(job)),
        ("ranges", _format_ranges(job)),
        ("labels", format_value(spec.labels)),
        ("accepted", format_time(job.create_time)),
        ("started", format_time(job.start_time) if job.start_time else ""),
        ("ended", format_time(job.end_time) if job.end_time else ""),
        ("took", _took(job)),
        ("progress", f"{progress.positions_done} of {progress.positions_total} positions"),
        ("chunks", f"{progress.chunks_done} of {progress.chunks_total}" if progress.chunks_total else ""),
        ("plan", f"{job.plan.threads} workers, chunks of at most {job.plan.chunk}" if job.plan else ""),
        ("cpu", _format_cpu(job.cpu)),
        *(("waits", format_reason(reason)) for reason in job.waiting_reasons),
    ]
    parts = [fields(pairs), *(f"warning: {line}" for line in list_warnings(job))]
    if job.error:
        parts.append(f"error: {printable(describe_failure(job))}")
        if job.error.exception:
            parts.append(printable(job.error.exception))
    if job.result:
        parts.append(format_result(job.result))
    return "\n".join(parts)


def list_warnings(job: Job) -> list[str]:
    """The warnings of a job, one line each."""
    lines = [printable(f"{warning.code}: {warning.message}") for warning in job.warnings]
    return [*lines, f"{job.warnings_omitted} more"] if job.warnings_omitted else lines


def _format_cpu(cpu: CpuUsage) -> str:
    counts = (
        ("chunks recalled", cpu.chunks_recalled),
        ("chunks run again", cpu.chunks_rerun),
        ("chunks run twice", cpu.chunks_run_twice),
        ("helpers raised", cpu.helpers_raised),
    )
    shown = [f"{what}: {count}" for what, count in counts if count]
    return ", ".join([f"leads {cpu.lead_seconds:.2f} s, helpers {cpu.helper_seconds:.2f} s", *shown])


def describe_success(job: Job) -> str:
    """One line on a job that has succeeded."""
    words = [f"{job.function} done"]
    if job.progress.bytes_total:
        words.append(format_bytes(job.progress.bytes_total))
    if job.start_time and job.end_time:
        seconds = (job.end_time - job.start_time).total_seconds()
        words.append(f"in {format_duration(seconds)}")
        if job.progress.bytes_total and seconds > 0:
            words.append(f"({format_bytes(int(job.progress.bytes_total / seconds))}/s)")
    if job.plan:
        words.append(f"by {job.plan.threads} worker{'' if job.plan.threads == 1 else 's'}")
    return printable(" ".join(words))


def list_jobs(jobs: Iterable[Job], now: datetime | None = None, *, shortened: bool = False) -> str:
    """A table of jobs; `shortened` = only the beginnings of their ids."""
    now = now or datetime.now(UTC)
    known = list(jobs)
    heads: tuple[str, ...] = ("ID", "STATE", "FUNCTION", "DONE", "AGE", "TOOK", "UID")
    rows: list[tuple[object, ...]] = [
        (
            job.id[: _SHORT if shortened else None],
            job.state,
            job.function,
            _percent(job),
            _age(job, now),
            _took(job) or "-",
            job.owner.uid,
        )
        for job in known
    ]
    # These may be long and are not always known, so the columns are optional and last.
    for head, words_of in (
        ("FILES", format_files),
        ("COMMAND", format_command),
        ("LABELS", lambda job: format_value(job.spec.labels)),
    ):
        words = [words_of(job) for job in known]
        if any(words):
            heads = (*heads, head)
            rows = [(*row, one or "-") for row, one in zip(rows, words, strict=True)]
    return table(heads, rows)


def list_functions(functions: Iterable[Function]) -> str:
    """A table of functions."""
    heads = ("NAME", "SOURCES", "ARGUMENTS", "SUMMARY")
    rows = (
        (
            function.name,
            ",".join(source.role for source in function.sources) or "-",
            ",".join(argument.name for argument in function.arguments) or "-",
            f"(unavailable) {function.summary}" if function.unavailable else function.summary,
        )
        for function in functions
    )
    return table(heads, rows)


def describe_function(function: Function) -> str:
    """The full declaration of a function."""
    pairs: list[tuple[str, object]] = [
        ("name", function.name),
        ("summary", function.summary),
        ("unavailable", function.unavailable),
        *(
            (f"source {source.role}", f"{_access(source.access)}. {source.summary}")
            for source in function.sources
        ),
        ("items", "may replace the first source" if function.items else ""),
        *(
            (f"argument {one.name}", f"{one.type}{_bounds(one)}, {_default(one.default)}. {one.summary}")
            for one in function.arguments
        ),
        ("position", _position(function)),
        ("align", function.align),
        ("min chunk", function.min_chunk),
        ("boundary", f"records of the size in argument {function.boundary}" if function.boundary else ""),
        ("allocates", "yes" if function.allocates else "no"),
        ("half-done chunk", function.partial.lower().replace("_", " ")),
        ("undo", _undo(function)),
        ("combine", "yes" if function.combine else "no"),
    ]
    return fields(pairs)


def _bounds(argument: Argument) -> str:
    """The bounds of its values, if it has any."""
    if argument.minimum is not None and argument.maximum is not None:
        return f" {argument.minimum} to {argument.maximum}"
    if argument.minimum is not None:
        return f" of at least {argument.minimum}"
    return f" of at most {argument.maximum}" if argument.maximum is not None else ""


def _position(function: Function) -> str:
    size = f" of the size in argument {function.record}" if function.record else ""
    return f"one {function.unit}{size}"


def _undo(function: Function) -> str:
    if function.undo:
        return function.undo_summary or "yes"
    if any("WRITE" in source.access for source in function.sources):
        return "none: changes of completed chunks stay, and are reported as dirty"
    return "none needed: it changes nothing" if function.sources else "none"


def format_mode(status: Status) -> str:
    """The mode, and when it ends."""
    until = f" until {format_time(status.mode_until)}" if status.mode_until else ""
    return f"{printable(status.mode.lower())}{until}"


def describe_status(status: Status) -> str:
    """The daemon: nodes, pools, workers, allowance, limits, counters."""
    head = fields(
        [
            ("version", status.version),
            ("pid", status.pid),
            ("directory", status.runtime_dir),
            ("started", format_time(status.start_time)),
            ("mode", format_mode(status)),
            ("draining", "yes: accepts no new jobs" if status.draining else "no"),
            ("selftest", "yes" if status.selftest else ""),
            (
                "helpers raised by",
                printable(", ".join(status.raising)) or "no method here: they are only recalled",
            ),
        ]
    )
    nodes = table(
        ("NODE", "CPUS", "MEMORY"),
        ((node.nid, node.cpulist or "none", format_bytes(node.memory_bytes)) for node in status.nodes),
    )
    readings = fields((one.name, f"{one.value} ({one.source})") for one in status.readings)
    parts = [head, nodes, _describe_allowance(status.allowance), readings]
    parts += [_describe_pool(pool) for pool in status.pools]
    parts += [fields((name, value) for name, value in status.limits.items())]
    parts += [fields((name, value) for name, value in status.counters.items())]
    parts += ["\n".join(f"missing: {printable(one)}" for one in status.missing)]
    return "\n\n".join(filter(None, parts))


def _describe_allowance(allowance: Allowance) -> str:
    nodes = ", ".join(f"node {one.nid}: {one.helpers} helpers, {one.busy} busy" for one in allowance.nodes)
    level = LEVELS.get(allowance.level, allowance.level.lower())
    share = f", {allowance.share * 100:g} % of the time" if allowance.share < 1 else ""
    lines = [
        f"allowance: {printable(level)}{share}",
        f"  {nodes or 'no helpers'}; {allowance.leads} leads, {allowance.leads_per_uid} for one user",
    ]
    return "\n".join(lines + [f"  because: {format_reason(reason)}" for reason in allowance.reasons])


def _describe_pool(pool: Pool) -> str:
    head = f"pool {printable(pool.name)}: {pool.worker_class.lower()}s, host pid {pool.host_pid}"
    if pool.host_respawns:
        head += f", restarted {pool.host_respawns} times"
    heads = (
        "ID",
        "PID",
        "STATE",
        "CPUS",
        "POLICY",
        "NICE",
        "GROUP",
        "GIVES WAY BY",
        "IO",
        "OOM",
        "MEMORY",
        "PRIVATE",
        "CHUNKS",
        "JOB",
    )
    lines = [head, table(heads, map(_worker_row, pool.workers))]
    given = sorted({", ".join(worker.gave_up) for worker in pool.workers if worker.gave_up})
    lines += [f"  given up: {printable(one)}" for one in given]
    lines += [
        f"  worker {worker.id} lacks: {printable(one)}" for worker in pool.workers for one in worker.missing
    ]
    return "\n".join(lines)


def _worker_row(worker: Worker) -> tuple[object, ...]:
    return (
        worker.id,
        worker.pid or "-",
        worker.state.lower(),
        worker.cpulist or "-",
        f"{worker.policy or '-'}{', raised' if worker.raised else ''}",
        worker.nice,
        "-" if worker.autogroup_nice is None else worker.autogroup_nice,
        worker.gives_way_by or "-",
        worker.ioprio or "-",
        worker.oom_score_adj,
        worker.mempolicy or "-",
        format_bytes(worker.private_bytes) if worker.private_bytes else "-",
        worker.chunks,
        worker.job_id or "-",
    )


def format_reason(reason: Reason) -> str:
    """A reason with its value, its threshold and its begin."""
    measured = ", ".join(filter(None, [reason.value, reason.threshold and f"threshold {reason.threshold}"]))
    since = f" since {format_time(reason.since)}" if reason.since else ""
    return printable(f"{reason.code}: {reason.message}{f' ({measured})' if measured else ''}{since}")


def _format_ranges(job: Job) -> str:
    shown = [
        f"{one.start}:{one.length}{'' if one.nid is None else f'@{one.nid}'}" for one in job.spec.ranges[:8]
    ]
    more = len(job.spec.ranges) + job.spec.ranges_omitted - len(shown)
    return " ".join([*shown, *([f"and {more} more"] if more else [])])


def _format_items(job: Job) -> str:
    """Their number, and the names that are known."""
    count = len(job.spec.items) + job.spec.items_omitted
    names = [item.name or item.path for item in job.spec.items if item.name or item.path]
    if not names:
        return str(count or "")
    return f"{count}: {', '.join(names)}{', ...' if count > len(names) else ''}"


def _percent(job: Job) -> str:
    total = job.progress.positions_total
    return f"{job.progress.positions_done * 100 // total}%" if total else "-"


def _age(job: Job, now: datetime) -> str:
    return format_duration(max(0.0, (now - job.create_time).total_seconds())) if job.create_time else "-"


def _took(job: Job) -> str:
    if not job.start_time or not job.end_time:
        return ""
    return format_duration((job.end_time - job.start_time).total_seconds())


def _access(access: str) -> str:
    return {"READ": "read", "WRITE": "written", "READ_WRITE": "read and written"}.get(access, access.lower())


def _default(value: object) -> str:
    return "must be given" if value is None else f"default {format_value(value)}"
