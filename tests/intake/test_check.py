"""Every refusal of a spec: its class, its field, and the parts of its message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.intake.check import (
    check_items,
    check_job,
    check_limits,
    check_roles,
    find_function,
    is_for_one,
)
from ktaskd.model import errors, limits
from ktaskd.model.checked import CheckedJob
from ktaskd.model.function import Access
from ktaskd.model.job import JobSpec, RangeSpec, SourceRef
from ktaskd.model.source import F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, SourceFacts, SourceKind
from ktaskd.model.topology import Node, Topology

TOPOLOGY = Topology((Node(0, frozenset({0, 1})), Node(2, frozenset())))
MEMORY = SourceFacts(SourceKind.MEMORY, Access.READ_WRITE, False, 0, 100, 4096, 1, 1, "tmpfs", True)
FILE = replace(MEMORY, kind=SourceKind.FILE, file_system="ext4")
REF = SourceRef(handle="h")


def check(spec: JobSpec, items: tuple[SourceFacts, ...] = (), **sources: SourceFacts) -> CheckedJob:
    """All steps, in the order of the intake."""
    check_limits(spec)
    declaration = find_function(spec.function, CATALOGUE)
    check_roles(spec, declaration)
    check_items(declaration, items)
    return check_job(spec, declaration, sources, len(items), TOPOLOGY)


def crc(**changes: Any) -> JobSpec:
    return replace(JobSpec("file.crc32", sources={"data": REF}), **changes)


def fill(**changes: Any) -> JobSpec:
    return replace(JobSpec("mem.fill", sources={"data": REF}), **changes)


def copy(**changes: Any) -> JobSpec:
    return replace(JobSpec("file.copy", sources={"src": REF, "dst": REF}), **changes)


def refused(kind: type[errors.KtaskError], field: str, *parts: str) -> Any:
    """The arguments of one case."""
    return kind, field, parts


SPECS: list[tuple[JobSpec, Any]] = [
    (JobSpec(""), refused(errors.SpecInvalid, "spec.function", 'got ""', "wanted the name")),
    (JobSpec("no.such"), refused(errors.FunctionUnknown, "spec.function", '"no.such"', "ListFunctions")),
    (JobSpec("é" * 65), refused(errors.LimitExceeded, "spec.function", "got 130 bytes", "at most 128")),
    (crc(request_id="x" * 129), refused(errors.LimitExceeded, "spec.request_id", "got 129 characters")),
    (crc(labels={str(i): "" for i in range(17)}), refused(errors.LimitExceeded, "spec.labels", "got 17")),
    (crc(labels={"": "x"}), refused(errors.SpecInvalid, 'spec.labels[""]', "that is not empty")),
    (crc(labels={"a=b": "x"}), refused(errors.SpecInvalid, 'spec.labels["a=b"]', 'has no "=" in it')),
    (crc(labels={"k": "é" * 128}), refused(errors.LimitExceeded, 'spec.labels["k"]', "got 257 bytes")),
    (
        crc(sources={str(i): REF for i in range(17)}),
        refused(errors.LimitExceeded, "spec.sources", "got 17 sources", "at most 16"),
    ),
    (
        crc(items=(REF,) * (limits.ITEMS_MAX + 1)),
        refused(errors.LimitExceeded, "spec.items", "got 100001 items", "at most 100000"),
    ),
    (
        crc(ranges=(RangeSpec(0, 0),) * 4097),
        refused(errors.LimitExceeded, "spec.ranges", "got 4097 ranges", "at most 4096"),
    ),
    (
        crc(arg={"x": "y" * 16384}),
        refused(errors.LimitExceeded, "spec.arg", "got 16385 bytes", "at most 16384"),
    ),
    (
        crc(sources={"data": REF, "dst": REF}),
        refused(errors.SourceInvalid, 'spec.sources["dst"]', "no such role", 'wanted "data"'),
    ),
    (
        JobSpec("selftest.noop", sources={"data": REF}),
        refused(errors.SourceInvalid, 'spec.sources["data"]', "wanted no source"),
    ),
    (
        copy(sources={"src": REF}),
        refused(
            errors.SourceInvalid, 'spec.sources["dst"]', 'source "dst": got none', '"file.copy" needs it'
        ),
    ),
    (fill(items=(REF,)), refused(errors.SourceInvalid, "spec.items", "got 1 items", "takes none")),
    (crc(items=(REF,)), refused(errors.SourceInvalid, "spec.items", 'items and source "data"', "one of")),
    (crc(arg={"x": 1}), refused(errors.ArgumentInvalid, "spec.arg.x", 'wanted "changed"')),
    (crc(undo=True), refused(errors.SpecInvalid, "spec.undo", "got true", "has no undo")),
    (
        crc(ranges=(RangeSpec(0, 10), RangeSpec(90, 11))),
        refused(errors.RangeBeyondEnd, "spec.ranges[1]", "ends at position 101", 'source "data" has 100'),
    ),
    (
        crc(ranges=(RangeSpec(2**64, 0),)),
        refused(errors.RangeBeyondEnd, "spec.ranges[0]", "ends at position"),
    ),
    (
        crc(ranges=(RangeSpec(50, 10), RangeSpec(0, 51))),
        refused(
            errors.SpecInvalid, "spec.ranges[0]", "starts at position 50", "spec.ranges[1] which ends at 51"
        ),
    ),
    (
        crc(ranges=(RangeSpec(0, 10, 7),)),
        refused(errors.SpecInvalid, "spec.ranges[0].nid", "got 7", "(0, 2)"),
    ),
    (
        crc(ranges=(RangeSpec(0, 10, -2),)),
        refused(errors.SpecInvalid, "spec.ranges[0].nid", "got -2", "wanted -1 or a node"),
    ),
    (
        JobSpec("file.allocate", sources={"data": REF}, ranges=(RangeSpec(2**62, 2**62),)),
        refused(errors.RangeBeyondEnd, "spec.ranges[0]", "positions go up to"),
    ),
    (
        JobSpec("selftest.noop", ranges=(RangeSpec(2**62, 2**62),)),
        refused(errors.RangeBeyondEnd, "spec.ranges[0]", "positions go up to"),
    ),
]


@pytest.mark.parametrize(
    ("spec", "wanted"), SPECS, ids=lambda value: "" if isinstance(value, JobSpec) else value[1]
)
def test_spec_when_it_cannot_be_run_then_refused(
    spec: JobSpec, wanted: tuple[type[errors.KtaskError], str, tuple[str, ...]]
) -> None:
    kind, field, parts = wanted
    with pytest.raises(errors.KtaskError) as caught:
        check(spec, data=MEMORY, src=MEMORY, dst=MEMORY)
    assert type(caught.value) is kind
    assert caught.value.field == field
    for part in parts:
        assert part in caught.value.message


SOURCES: list[tuple[JobSpec, dict[str, SourceFacts], Any]] = [
    (
        copy(),
        {"src": MEMORY, "dst": replace(MEMORY, access=Access.READ)},
        refused(
            errors.AccessMissing,
            'spec.sources["dst"]',
            'source "dst": opened read-only, function "file.copy" writes it',
        ),
    ),
    (
        copy(),
        {"src": replace(MEMORY, access=Access.WRITE), "dst": MEMORY},
        refused(
            errors.AccessMissing, 'spec.sources["src"]', 'opened write-only, function "file.copy" reads it'
        ),
    ),
    (
        fill(),
        {"data": replace(FILE, append=True)},
        refused(errors.FdUnsuitable, 'spec.sources["data"]', "O_APPEND", "writes at positions"),
    ),
    (
        crc(),
        {"data": replace(FILE, direct=True)},
        refused(errors.FdUnsuitable, 'spec.sources["data"]', "O_DIRECT", "open it without"),
    ),
    (
        fill(),
        {"data": replace(MEMORY, seals=F_SEAL_WRITE)},
        refused(errors.FdUnsuitable, 'spec.sources["data"]', "sealed against writing"),
    ),
    (
        fill(),
        {"data": replace(MEMORY, seals=F_SEAL_FUTURE_WRITE)},
        refused(errors.FdUnsuitable, 'spec.sources["data"]', "sealed against writing"),
    ),
    (
        JobSpec("mem.populate", sources={"data": REF}),
        {"data": FILE},
        refused(errors.FdUnsuitable, 'spec.sources["data"]', "a file on ext4", "works on memory"),
    ),
]


@pytest.mark.parametrize(("spec", "sources", "wanted"), SOURCES)
def test_source_when_opened_otherwise_than_needed_then_refused(
    spec: JobSpec,
    sources: dict[str, SourceFacts],
    wanted: tuple[type[errors.KtaskError], str, tuple[str, ...]],
) -> None:
    kind, field, parts = wanted
    with pytest.raises(errors.KtaskError) as caught:
        check(spec, (), **sources)
    assert type(caught.value) is kind
    assert caught.value.field == field
    for part in parts:
        assert part in caught.value.message


def test_item_when_it_cannot_be_read_then_refused_by_its_index() -> None:
    spec = JobSpec("file.crc32", items=(REF, REF))
    with pytest.raises(errors.AccessMissing, match="item 1: opened write-only") as caught:
        check(spec, items=(FILE, replace(FILE, access=Access.WRITE)))
    assert caught.value.field == "spec.items[1]"


def test_item_when_a_range_ends_after_the_list_then_refused() -> None:
    spec = JobSpec("file.crc32", items=(REF, REF), ranges=(RangeSpec(1, 2),))
    with pytest.raises(errors.RangeBeyondEnd, match="the list of items has 2"):
        check(spec, items=(FILE, FILE))


def test_function_when_it_cannot_be_run_here_then_says_why() -> None:
    lame = replace(CATALOGUE["mem.fill"], unavailable="no memory")
    with pytest.raises(errors.FunctionUnavailable, match="cannot be run here: no memory"):
        find_function("mem.fill", {"mem.fill": lame})


@pytest.mark.parametrize("access", [Access.READ, Access.READ_WRITE])
def test_reader_when_the_source_is_append_only_or_sealed_then_accepted(access: Access) -> None:
    facts = replace(MEMORY, access=access, append=True, seals=F_SEAL_WRITE)
    assert check(crc(), data=facts).ranges == (RangeSpec(0, 100),)


@pytest.mark.parametrize(
    ("spec", "facts", "anywhere", "whole"),
    [
        (crc(), MEMORY, False, True),
        (crc(), FILE, True, True),
        (crc(ranges=(RangeSpec(0, 10),)), FILE, False, False),
        (crc(ranges=(RangeSpec(0, 10),)), MEMORY, False, False),
    ],
)
def test_ranges_when_absent_then_the_whole_and_a_file_anywhere(
    spec: JobSpec, facts: SourceFacts, anywhere: bool, whole: bool
) -> None:
    checked = check(spec, data=facts)
    assert (checked.anywhere, checked.whole) == (anywhere, whole)


def test_ranges_when_empty_ones_are_inside_others_then_accepted_and_dropped() -> None:
    spec = crc(ranges=(RangeSpec(20, 10), RangeSpec(25, 0), RangeSpec(0, 20), RangeSpec(100, 0)))
    checked = check(spec, data=MEMORY)
    assert checked.ranges == (RangeSpec(20, 10), RangeSpec(0, 20))
    assert checked.span == (0, 30)


def test_empty_source_when_whole_then_an_empty_job() -> None:
    checked = check(crc(), data=replace(MEMORY, size=0))
    assert checked.ranges == ()
    assert checked.span == (0, 0)


@pytest.mark.parametrize(("undo", "wanted"), [(None, True), (True, True), (False, False)])
def test_undo_when_asked_for_or_not_then_the_functions_or_none(undo: bool | None, wanted: bool) -> None:
    assert check(copy(undo=undo), src=MEMORY, dst=MEMORY).undo is wanted
    assert not check(crc(undo=undo if not undo else None), data=MEMORY).undo


def test_range_when_the_function_grows_its_source_then_it_may_reach_beyond_the_end() -> None:
    spec = JobSpec("file.allocate", sources={"data": REF}, ranges=(RangeSpec(50, 1000),))
    assert check(spec, data=MEMORY).span == (50, 1050)
    assert check(replace(spec, ranges=()), data=MEMORY).span == (0, 100)


@pytest.mark.parametrize("name", ["file.copy", "mem.fill"])
def test_workers_when_all_bytes_go_to_one_file_then_one(name: str) -> None:
    """Writes to a file wait for each other."""
    declaration = CATALOGUE[name]
    written = declaration.sources[-1].role
    assert is_for_one(declaration, {"src": MEMORY, written: FILE})
    assert not is_for_one(declaration, {"src": FILE, written: MEMORY})
    assert not is_for_one(CATALOGUE["file.crc32"], {"data": FILE})
