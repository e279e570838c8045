"""Whether a job can be run, as asked for. Pure: every refusal is an error here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from ktaskd.intake.arguments import check_arguments
from ktaskd.model import limits
from ktaskd.model.checked import CheckedJob
from ktaskd.model.compact import compact
from ktaskd.model.errors import (
    AccessMissing,
    FdUnsuitable,
    FunctionUnavailable,
    FunctionUnknown,
    LimitExceeded,
    RangeBeyondEnd,
    SourceInvalid,
    SpecInvalid,
)
from ktaskd.model.function import Access, ArgValue, Declaration, SourceRole
from ktaskd.model.job import JobSpec, RangeSpec
from ktaskd.model.source import F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, SourceFacts, SourceKind
from ktaskd.model.topology import Topology


def find_function(name: str, functions: Mapping[str, Declaration]) -> Declaration:
    """The declaration of a function that can be run here."""
    if name not in functions:
        raise FunctionUnknown(
            f'spec.function: no function "{name}" here, wanted one of ListFunctions',
            field="spec.function",
            function=name,
        )
    declaration = functions[name]
    if declaration.unavailable:
        raise FunctionUnavailable(
            f'spec.function: "{name}" cannot be run here: {declaration.unavailable}',
            field="spec.function",
            function=name,
        )
    return declaration


class Counted(Protocol):
    """Anything with the counts of a spec; the message of a request has them before it is read."""

    @property
    def sources(self) -> Sized: ...  # noqa: D102
    @property
    def items(self) -> Sized: ...  # noqa: D102
    @property
    def ranges(self) -> Sized: ...  # noqa: D102
    @property
    def labels(self) -> Sized: ...  # noqa: D102


def check_counts(spec: Counted) -> None:
    """Refuse a spec with too many parts of any kind, without reading one."""
    _at_most("spec.sources", len(spec.sources), limits.SOURCES_MAX, "sources")
    _at_most("spec.items", len(spec.items), limits.ITEMS_MAX, "items")
    _at_most("spec.ranges", len(spec.ranges), limits.RANGES_MAX, "ranges")
    _at_most("spec.labels", len(spec.labels), limits.LABELS_MAX, "labels")


def check_limits(spec: JobSpec) -> None:
    """Refuse a spec that exceeds a limit, before any source is opened."""
    check_counts(spec)
    _at_most("spec.request_id", len(spec.request_id), limits.REQUEST_ID_MAX, "characters")
    _at_most("spec.function", len(spec.function.encode()), limits.NAME_BYTES_MAX, "bytes")
    arg_bytes = sum(len(f"{key}{value}".encode()) for key, value in spec.arg.items())
    _at_most("spec.arg", arg_bytes, limits.ARG_BYTES_MAX, "bytes")
    check_labels("spec.labels", spec.labels)
    if not spec.function:
        raise SpecInvalid('spec.function: got "", wanted the name of a function', field="spec.function")


def check_labels(field: str, labels: Mapping[str, str]) -> None:
    """Refuse labels that no job may have: too many, too long, without a name, or with "=" in one."""
    _at_most(field, len(labels), limits.LABELS_MAX, "labels")
    for key, value in labels.items():
        one = f'{field}["{key[:32]}"]'
        _at_most(one, len(f"{key}{value}".encode()), limits.LABEL_BYTES_MAX, "bytes")
        if not key or "=" in key:
            raise SpecInvalid(
                f'{one}: got "{key}", wanted a name that is not empty and has no "=" in it', field=one
            )


def _at_most(field: str, got: int, most: int, unit: str) -> None:
    if got > most:
        raise LimitExceeded(f"{field}: got {got} {unit}, wanted at most {most}", field=field, limit=str(most))


def as_items(spec: JobSpec, declaration: Declaration) -> JobSpec:
    """The same job with its first source as the one item, where the function works on whole files."""
    first = declaration.sources[0].role if declaration.sources else ""
    if not declaration.whole_files or spec.items or first not in spec.sources:
        return spec
    rest = {role: source for role, source in spec.sources.items() if role != first}
    return replace(spec, sources=rest, items=(spec.sources[first],))


def check_roles(spec: JobSpec, declaration: Declaration) -> None:
    """Refuse unknown, missing and doubled sources, before any is opened."""
    known = [source.role for source in declaration.sources]
    for role in spec.sources:
        if role not in known:
            wanted = ", ".join(f'"{name}"' for name in known) or "no source"
            raise SourceInvalid(
                f'source "{role}": function "{declaration.name}" has no such role, wanted {wanted}',
                field=f'spec.sources["{role}"]',
                role=role,
            )
    if spec.items and not declaration.items:
        raise SourceInvalid(
            f'spec.items: got {len(spec.items)} items, function "{declaration.name}" takes none',
            field="spec.items",
        )
    first = declaration.sources[0].role if declaration.sources else ""
    if spec.items and first in spec.sources:
        raise SourceInvalid(
            f'spec.items: got items and source "{first}", wanted one of them', field="spec.items"
        )
    for role in known:
        if role not in spec.sources and not (spec.items and role == first):
            raise SourceInvalid(
                f'source "{role}": got none, function "{declaration.name}" needs it',
                field=f'spec.sources["{role}"]',
                role=role,
            )


def check_job(
    spec: JobSpec,
    declaration: Declaration,
    sources: Mapping[str, SourceFacts],
    items: int,
    topology: Topology,
) -> CheckedJob:
    """Check everything that needs the opened sources.

    Args:
        sources: by role; sizes as of now.
        items: how many there are; `check_items` has looked at them.
    """
    arg = check_arguments(spec.arg, declaration)
    for role in declaration.sources:
        if role.role in sources:
            check_source(
                f'source "{role.role}"', f'spec.sources["{role.role}"]', role, sources[role.role], declaration
            )
    if spec.undo and not declaration.undo:
        raise SpecInvalid(
            f'spec.undo: got true, function "{declaration.name}" has no undo', field="spec.undo"
        )
    record = _record(declaration, arg, items)
    size, what = _space(declaration, sources, items, record)
    ranges = spec.ranges
    whole = not ranges
    if whole:
        ranges = (RangeSpec(0, size or 0),)
    if declaration.grows:
        size, what = None, ""
    check_ranges(ranges, size, what, topology)
    if not items:
        check_records(ranges, arg, declaration)
    first = sources.get(declaration.sources[0].role) if declaration.sources else None
    on_file = first is not None and first.kind is SourceKind.FILE
    return CheckedJob(
        declaration=declaration,
        arg=compact(arg),
        ranges=ranges if all(r.length for r in ranges) else tuple(r for r in ranges if r.length),
        whole=whole,
        # A file's pages have no one node, and neither has a list of files.
        anywhere=bool(items) or (whole and on_file),
        undo=declaration.undo and spec.undo is not False,
        position_bytes=0 if items else record or declaration.bytes_per_position,
        has_item_results=bool(items or record),
    )


def check_items(declaration: Declaration, items: Iterable[SourceFacts], first: int = 0) -> None:
    """Refuse items that were opened otherwise than the function needs; the first of them is item `first`."""
    for i, facts in enumerate(items, first):
        check_source(f"item {i}", f"spec.items[{i}]", declaration.sources[0], facts, declaration)


def check_source(
    name: str, field: str, role: SourceRole, facts: SourceFacts, declaration: Declaration
) -> None:
    """Refuse a source that was opened otherwise than the function needs."""
    writes = Access.WRITE in role.access
    # First: a sealed source counts as read-only, however it was opened.
    if writes and facts.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
        raise FdUnsuitable(
            f'{name}: sealed against writing, function "{declaration.name}" writes it', field=field
        )
    lacking = role.access & ~facts.access
    if lacking:
        opened = "read-only" if facts.access is Access.READ else "write-only"
        verb = "writes" if Access.WRITE in lacking else "reads"
        raise AccessMissing(f'{name}: opened {opened}, function "{declaration.name}" {verb} it', field=field)
    if writes and facts.append:
        raise FdUnsuitable(
            f'{name}: opened with O_APPEND, function "{declaration.name}" writes at positions', field=field
        )
    if facts.direct:
        raise FdUnsuitable(
            f"{name}: opened with O_DIRECT, which lets nobody read or write odd lengths; open it without",
            field=field,
        )
    if role.memory_only and facts.kind is SourceKind.FILE:
        raise FdUnsuitable(
            f'{name}: a file on {facts.file_system}, function "{declaration.name}" '
            "works on memory (memfd, tmpfs, hugetlbfs)",
            field=field,
        )


def _space(
    declaration: Declaration,
    sources: Mapping[str, SourceFacts],
    items: int,
    record: int,
) -> tuple[int | None, str]:
    """Size of the position space, and its name; None = only the ranges have one."""
    if items:
        return items, f"the list of items has {items}"
    if not declaration.sources or declaration.ranges_only:
        return None, ""
    role = declaration.sources[0].role
    size = sources[role].size
    if not record:
        return size, f'source "{role}" has {size}'
    count = -(-size // record)
    what = f'source "{role}" of {size} bytes has {count} of {record} (argument "{declaration.record}")'
    if count > limits.ITEMS_MAX:
        raise LimitExceeded(
            f"spec.arg.{declaration.record}: {what}, wanted at most {limits.ITEMS_MAX}; give a larger one",
            field=f"spec.arg.{declaration.record}",
            limit=str(limits.ITEMS_MAX),
        )
    return count, what


def _record(declaration: Declaration, arg: Mapping[str, ArgValue], items: int) -> int:
    """Bytes of one position of a function that works on records; 0 = it works on none here."""
    size = arg.get(declaration.record) if declaration.record and not items else None
    return size if isinstance(size, int) else 0


def check_ranges(ranges: Sequence[RangeSpec], size: int | None, what: str, topology: Topology) -> None:
    """Refuse ranges beyond the end, overlapping, or on no node.

    Args:
        size: positions that there are; None = as many as wanted.
        what: names that size in messages.
    """
    for i, piece in enumerate(ranges):
        field = f"spec.ranges[{i}]"
        end = limits.POSITION_MAX if size is None else size
        if piece.end > end:
            raise RangeBeyondEnd(
                f"{field}: ends at position {piece.end}, {what or 'positions go up to ' + str(end)}",
                field=field,
                end=str(piece.end),
                size=str(end),
            )
        if piece.nid is not None and piece.nid != limits.NUMA_NO_NODE and topology.node(piece.nid) is None:
            known = ", ".join(str(node.nid) for node in topology.nodes)
            raise SpecInvalid(
                f"{field}.nid: got {piece.nid}, wanted -1 or a node of this machine ({known})",
                field=f"{field}.nid",
            )
    ordered = sorted((piece.start, piece.end, i) for i, piece in enumerate(ranges) if piece.length)
    for (_, end, i), (start, _, j) in pairwise(ordered):
        if start < end:
            raise SpecInvalid(
                f"spec.ranges[{j}]: starts at position {start}, inside spec.ranges[{i}] which ends at {end}, "
                "wanted ranges that do not overlap",
                field=f"spec.ranges[{j}]",
            )


def check_records(ranges: Sequence[RangeSpec], arg: Mapping[str, ArgValue], declaration: Declaration) -> None:
    """Refuse ranges that begin inside a record, where the function has records.

    The last record of a range may be short: it is the end that was asked for.
    """
    record = arg.get(declaration.boundary)
    if not isinstance(record, int) or record <= 1:
        return
    for i, piece in enumerate(ranges):
        if piece.length and piece.start % record:
            raise SpecInvalid(
                f'spec.ranges[{i}].start: got {piece.start}, function "{declaration.name}" works on whole '
                f'records, wanted a multiple of {record} (argument "{declaration.boundary}")',
                field=f"spec.ranges[{i}].start",
            )


def is_for_one(declaration: Declaration, facts: Mapping[str, SourceFacts]) -> bool:
    """Whether a second worker would only wait for the first one."""
    return any(
        role.one_writer and role.role in facts and facts[role.role].kind is SourceKind.FILE
        for role in declaration.sources
    )
