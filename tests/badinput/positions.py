"""Bad ranges, chunks, numbers of threads, and nodes."""

from __future__ import annotations

import os
from typing import Any

from tests.badinput.case import (
    Accept,
    Act,
    Case,
    End,
    Group,
    Refuse,
    counted,
    filled,
    items_summed,
    piece,
    run,
    summed,
)
from tests.badinput.world import MIB, SIZE, Outcome, World, memfd, same_as

LAST = 2**64 - 1


def crc(*ranges: dict[str, Any], **fields: Any) -> Act:
    return run("file.crc32", {"data": memfd()}, ranges=ranges, **fields)


def fill(*ranges: dict[str, Any], **fields: Any) -> Act:
    return run("mem.fill", {"data": memfd()}, ranges=ranges, arg={"value": 7}, **fields)


def noop(*ranges: dict[str, Any], **fields: Any) -> Act:
    return run("selftest.noop", ranges=ranges, **fields)


def log(*ranges: dict[str, Any], record: object = 8) -> Act:
    return run("selftest.undo_log", {"data": memfd()}, ranges=ranges, arg={"record": record})


def beyond(i: int, end: int) -> Refuse:
    message = f'spec.ranges[{i}]: ends at position {end}, source "data" has {SIZE}'
    return Refuse("OUT_OF_RANGE", "RANGE_BEYOND_END", message, f"spec.ranges[{i}]")


def too_far(i: int, end: int) -> Refuse:
    message = f"spec.ranges[{i}]: ends at position {end}, positions go up to {2**63 - 1}"
    return Refuse("OUT_OF_RANGE", "RANGE_BEYOND_END", message, f"spec.ranges[{i}]")


def overlapping(j: int, start: int, i: int, end: int) -> Refuse:
    message = (
        f"spec.ranges[{j}]: starts at position {start}, inside spec.ranges[{i}] which ends at {end}, "
        "wanted ranges that do not overlap"
    )
    return Refuse("INVALID_ARGUMENT", "SPEC_INVALID", message, f"spec.ranges[{j}]")


def in_record(i: int, start: int, record: int) -> Refuse:
    message = (
        f'spec.ranges[{i}].start: got {start}, function "selftest.undo_log" works on whole records, '
        f'wanted a multiple of {record} (argument "record")'
    )
    return Refuse("INVALID_ARGUMENT", "SPEC_INVALID", message, f"spec.ranges[{i}].start")


def no_node(nid: int) -> Refuse:
    message = f"spec.ranges[0].nid: got {nid}, wanted -1 or a node of this machine (…)"
    return Refuse("INVALID_ARGUMENT", "SPEC_INVALID", message, "spec.ranges[0].nid")


def largest(world: World) -> Outcome:
    """A job of all possible positions, for which nobody waits."""
    return world.cancelled(world.submit(world.spec("selftest.spin", {}, [], ranges=[piece(0, 2**63 - 1)])))


def truncated_before(world: World) -> Outcome:
    wanted = world.spec("mem.fill", {"data": memfd()}, [], ranges=[piece(0, SIZE)])
    source = world.roles["data"]
    os.truncate(source.fd, MIB)
    del source.expected[MIB:]
    return world.run(wanted)


RANGES: Group = (
    "Ranges",
    [
        Case("ends one byte after the source", fill(piece(0, SIZE + 1)), beyond(0, SIZE + 1)),
        Case(
            "the second of two ends after the source",
            fill(piece(0, 4096), piece(SIZE - 1, 2)),
            beyond(1, SIZE + 1),
        ),
        Case("empty, but after the end of the source", fill(piece(SIZE + 1, 0)), beyond(0, SIZE + 1)),
        Case("starts at 2^64-1 (which is -1 on the wire)", fill(piece(LAST, 1)), beyond(0, 2**64)),
        Case("2^64-1 positions long", fill(piece(0, LAST)), beyond(0, LAST)),
        Case(
            "start and length 2^64-1: the sum does not fit into 64 bits",
            fill(piece(LAST, LAST)),
            beyond(0, 2**65 - 2),
        ),
        Case(
            "4096 before the end of 64 bits, so that the sum wraps to 4096",
            fill(piece(2**64 - 4096, 8192)),
            beyond(0, 2**64 + 4096),
        ),
        Case("the sum is 2^63, one more than any position", noop(piece(2**62, 2**62)), too_far(0, 2**63)),
        Case("the second of two sums is 2^63", noop(piece(0, 2**62), piece(2**62, 2**62)), too_far(1, 2**63)),
        Case(
            "all 2^63-1 positions that there are",
            largest,
            Accept("and cancelled, since it would take forever", state="CANCELLED"),
        ),
        Case(
            "two overlap by one byte", fill(piece(0, 8193), piece(8192, 4096)), overlapping(1, 8192, 0, 8193)
        ),
        Case(
            "one inside another, given before it",
            fill(piece(8192, 4096), piece(0, MIB)),
            overlapping(0, 8192, 1, MIB),
        ),
        Case("the same twice", fill(piece(4096, 4096), piece(4096, 4096)), overlapping(1, 4096, 0, 8192)),
        Case(
            "the same twice, on different nodes",
            fill(piece(0, 4096, nid=0), piece(0, 4096, nid=-1)),
            overlapping(1, 0, 0, 4096),
        ),
        Case(
            "after the last item",
            run("file.crc32", items=[memfd(), memfd()], ranges=[piece(1, 2)]),
            Refuse(
                "OUT_OF_RANGE",
                "RANGE_BEYOND_END",
                "spec.ranges[0]: ends at position 3, the list of items has 2",
                "spec.ranges[0]",
            ),
        ),
        Case(
            "within a source that was truncated after it was handed over",
            truncated_before,
            Refuse(
                "OUT_OF_RANGE",
                "RANGE_BEYOND_END",
                f'spec.ranges[0]: ends at position {SIZE}, source "data" has {MIB}',
                "spec.ranges[0]",
            ),
        ),
        Case("offset inside a record", log(piece(3, 16)), in_record(0, 3, 8)),
        Case(
            "offset of the second range inside a record",
            log(piece(0, 16), piece(4095, 16)),
            in_record(1, 4095, 8),
        ),
        Case(
            "offset inside a record of 10^39 bytes",
            log(piece(8, 16), record=str(10**39)),
            in_record(0, 8, 10**39),
        ),
        Case(
            "ends inside a record",
            log(piece(8, 12)),
            Accept("the last record of a range may be short", counted((8, 20))),
        ),
        Case(
            "an empty one inside a record",
            log(piece(3, 0), piece(8, 8)),
            Accept("it is no work", counted((8, 16))),
        ),
        Case(
            "neither offset nor length aligned, for a function of bytes",
            fill(piece(4097, 100_003)),
            Accept("only the edges between chunks are aligned", filled(7, 4097, 104_100)),
        ),
        Case("length 0", fill(piece(0, 0)), Accept("an empty job")),
        Case(
            "a thousand empty ones inside another",
            fill(piece(0, 4096), *[piece(7, 0)] * 1000),
            Accept("they are no work", filled(7, 0, 4096)),
        ),
        Case(
            "two that touch, the later one first",
            fill(piece(4096, 4096), piece(0, 4096)),
            Accept("they do not overlap", filled(7, 0, 8192)),
        ),
        Case("none, for a function without a source", noop(), Accept("an empty job")),
        Case(
            "the same source twice among the items",
            run("file.crc32", items=[memfd(), memfd(size=9), memfd(size=0)]),
            Accept("each has its own result", items_summed(SIZE, 9, 0)),
        ),
        Case(
            "one source as both `src` and `dst`",
            run("file.copy", {"src": memfd(), "dst": same_as("src")}),
            End(
                "FAILED", "FUNCTION_ERROR", 22, 'source "dst": is the same file as "src", wanted another file'
            ),
        ),
    ],
)

CHUNKS: Group = (
    "Chunks, threads, nodes",
    [
        Case("`min_chunk` 0", fill(min_chunk="0"), Accept("the function's default", filled(7))),
        Case("`min_chunk` 1", fill(min_chunk="1"), Accept("rounded up to the function's align", filled(7))),
        Case("`min_chunk` larger than the job", fill(min_chunk=str(10**12)), Accept("one chunk", filled(7))),
        Case("`min_chunk` 2^63", fill(min_chunk=str(2**63)), Accept("one chunk", filled(7))),
        Case("`min_chunk` 2^64-1", fill(min_chunk=str(LAST)), Accept("one chunk", filled(7))),
        Case(
            "`min_chunk` 2^64-1 and a record of 10^39 bytes",
            run(
                "selftest.undo_log",
                {"data": memfd()},
                min_chunk=str(LAST),
                arg={"record": str(10**39)},
                ranges=[piece(0, 64)],
            ),
            Accept("one chunk", counted((0, 64))),
        ),
        Case("`max_threads` 0", fill(max_threads=0), Accept("the default of 4, clamped", filled(7))),
        Case("`max_threads` 1", fill(max_threads=1), Accept("one worker", filled(7))),
        Case("`max_threads` 10^9", fill(max_threads=10**9), Accept("clamped to what may run", filled(7))),
        Case(
            "`max_threads` 2^32-1", fill(max_threads=2**32 - 1), Accept("clamped to what may run", filled(7))
        ),
        Case(
            "`max_threads` 10^9 for one position", noop(piece(0, 1), max_threads=10**9), Accept("one worker")
        ),
        Case("`nid` 99", crc(piece(0, 4096, nid=99)), no_node(99)),
        Case("`nid` -2", crc(piece(0, 4096, nid=-2)), no_node(-2)),
        Case("`nid` 2^31-1", crc(piece(0, 4096, nid=2**31 - 1)), no_node(2**31 - 1)),
        Case("`nid` -2^31", crc(piece(0, 4096, nid=-(2**31))), no_node(-(2**31))),
        Case("`nid` 99 of an empty range", crc(piece(0, 0, nid=99)), no_node(99)),
        Case("`nid` -1", crc(piece(0, 4096, nid=-1)), Accept("any node", summed(0, 4096))),
    ],
)

GROUPS = [RANGES, CHUNKS]
