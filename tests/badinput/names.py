"""Bad names of functions, arguments and roles, and arguments of wrong types."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ktask.v1 import jobs_pb2 as pb

from tests.badinput.case import Accept, Act, Case, Group, Refuse, filled, piece, run, summed
from tests.badinput.world import handle, memfd, nothing

FUNCTIONS: Group = (
    "Functions",
    [
        Case(
            "no function named",
            run(""),
            Refuse(
                "INVALID_ARGUMENT",
                "SPEC_INVALID",
                'spec.function: got "", wanted the name of a function',
                "spec.function",
            ),
        ),
        Case(
            "unknown function",
            run("no.such"),
            Refuse(
                "NOT_FOUND",
                "FUNCTION_UNKNOWN",
                'spec.function: no function "no.such" here, wanted one of ListFunctions',
                "spec.function",
            ),
        ),
        Case(
            "code of the caller's own, where others come in too",
            run("python.run", ranges=[piece(0, 1)]),
            Refuse(
                "PERMISSION_DENIED",
                "NOT_ALLOWED",
                'spec.function: "python.run" runs code of its caller, which only a daemon does that is its '
                "caller's own and that nobody else reaches; got uid …, this daemon is uid … and serves "
                "others; use the per-user one (systemctl --user start ktaskd) or an embedded one: "
                "ktask.connect(own=True)",
                "spec.function",
            ),
        ),
        Case(
            "a function's name in capitals",
            run("FILE.CRC32"),
            Refuse(
                "NOT_FOUND",
                "FUNCTION_UNKNOWN",
                'spec.function: no function "FILE.CRC32" here, wanted one of ListFunctions',
                "spec.function",
            ),
        ),
        Case(
            "a function's name of 129 bytes",
            run("é" * 64 + "x"),
            Refuse(
                "INVALID_ARGUMENT",
                "LIMIT_EXCEEDED",
                "spec.function: got 129 bytes, wanted at most 128",
                "spec.function",
            ),
        ),
        Case(
            "`undo` asked of a function without one",
            run("file.crc32", {"data": memfd()}, undo=True),
            Refuse(
                "INVALID_ARGUMENT",
                "SPEC_INVALID",
                'spec.undo: got true, function "file.crc32" has no undo',
                "spec.undo",
            ),
        ),
    ],
)


def fill(value: Any) -> Act:
    return run("mem.fill", {"data": memfd()}, arg={"value": value})


def number(function: str, name: str, value: float, **fields: Any) -> Act:
    """An argument that JSON cannot express."""

    def tweak(spec: pb.JobSpec) -> None:
        spec.arg.fields[name].number_value = value

    sources = {"data": memfd()} if function == "mem.fill" else {}
    return run(function, sources, tweak=tweak, **fields)


def with_arg(function: str, **arg: Any) -> Act:
    return run(function, arg=arg, ranges=[piece(0, 1)])


def wrong(got: str, name: str = "value", wanted: str = "an integer (above 2^53 as a string)") -> Refuse:
    message = f'argument "{name}": got {got}, wanted {wanted}'
    return Refuse("INVALID_ARGUMENT", "ARGUMENT_INVALID", message, f"spec.arg.{name}")


SEVEN = "\N{ARABIC-INDIC DIGIT SEVEN}"
PLAIN = "a number, a string, true or false"


def nested(depth: int) -> Callable[[pb.JobSpec], None]:
    """A list in a list in a list."""

    def tweak(spec: pb.JobSpec) -> None:
        value = spec.arg.fields["value"]
        for _ in range(depth):
            value = value.list_value.values.add()
        value.number_value = 1

    return tweak


ARGUMENTS: Group = (
    "Arguments",
    [
        Case(
            "unknown argument",
            run("mem.fill", {"data": memfd()}, arg={"valeu": 1}),
            Refuse(
                "INVALID_ARGUMENT",
                "ARGUMENT_INVALID",
                'argument "valeu": function "mem.fill" has no such argument, wanted "value"',
                "spec.arg.valeu",
            ),
        ),
        Case(
            "an argument for a function without any",
            run("file.allocate", {"data": memfd()}, arg={"x": 1}),
            Refuse(
                "INVALID_ARGUMENT",
                "ARGUMENT_INVALID",
                'argument "x": function "file.allocate" has no such argument, wanted no arguments',
                "spec.arg.x",
            ),
        ),
        Case(
            "an unknown argument with a name of 16 KiB",
            run("mem.fill", {"data": memfd()}, arg={"n" * 16_380: 1}),
            Refuse(
                "INVALID_ARGUMENT",
                "ARGUMENT_INVALID",
                f'argument "{"n" * 1011}...',
                f"spec.arg.{'n' * 244}...",
            ),
        ),
        Case(
            "a word that is none of the choices",
            run("array.reduce", {"data": memfd()}, arg={"op": "median"}),
            wrong('"median"', "op", "sum, mean, min, max or histogram"),
        ),
        Case(
            "a level that the format does not have",
            run("file.compress", {"src": memfd(), "dst": memfd()}, arg={"format": "gzip", "level": 12}),
            wrong("12", "level", "at most 9 for gzip"),
        ),
        Case(
            "a regular expression that is none",
            run("text.search", {"data": memfd()}, arg={"pattern": "a)", "regex": True}),
            Refuse(
                "INVALID_ARGUMENT",
                "ARGUMENT_INVALID",
                'argument "pattern": not a regular expression of RE2: unexpected ): nothing is open there',
                "spec.arg.pattern",
            ),
        ),
        Case(
            "a wrong argument beside a handle that is none",
            run("text.search", {"data": handle("0" * 32)}, arg={"pattern": "x", "show": "all"}),
            wrong('"all"', "show", "count, offsets or lines"),
        ),
        Case("integer: a list", fill([1]), wrong("list", wanted=PLAIN)),
        Case("integer: an object", fill({"a": 1}), wrong("struct", wanted=PLAIN)),
        Case("integer: null", fill(None), wrong("null", wanted=PLAIN)),
        Case(
            "integer: a list, 20 deep",
            run("mem.fill", {"data": memfd()}, tweak=nested(20)),
            wrong("list", wanted=PLAIN),
        ),
        Case(
            "integer: a value of no kind",
            run("mem.fill", {"data": memfd()}, tweak=lambda spec: spec.arg.fields["value"].SetInParent()),
            wrong("nothing", wanted=PLAIN),
        ),
        Case("integer: true", fill(True), wrong("true")),
        Case("integer: 1.5", fill(1.5), wrong("1.5")),
        Case("integer: 1e300", fill(1e300), wrong("1e+300")),
        Case("integer: NaN", number("mem.fill", "value", math.nan), wrong("NaN")),
        Case("integer: Infinity", number("mem.fill", "value", math.inf), wrong("Infinity")),
        Case("integer: minus infinity", number("mem.fill", "value", -math.inf), wrong("-Infinity")),
        Case("integer: 2^54 as a number", fill(2.0**54), wrong("18014398509481984")),
        Case('integer: ""', fill(""), wrong('""')),
        Case('integer: "1.0"', fill("1.0"), wrong('"1.0"')),
        Case('integer: "0x10"', fill("0x10"), wrong('"0x10"')),
        Case('integer: " 7", with a blank', fill(" 7"), wrong('" 7"')),
        Case("integer: a digit of another script", fill(SEVEN), wrong(f'"{SEVEN}"')),
        Case("integer: 5000 digits", fill("9" * 5000), wrong(f'"{"9" * 64}"')),
        Case("integer: 256, where a byte is wanted", fill(256), wrong("256", wanted="at most 255")),
        Case("integer: -1, where a byte is wanted", fill(-1), wrong("-1", wanted="at least 0")),
        Case(
            'integer: "7"',
            fill("7"),
            Accept("integers may be strings, as those above 2^53 must be", filled(7)),
        ),
        Case("integer: -0.0", number("mem.fill", "value", -0.0), Accept("is 0", filled(0))),
        Case(
            "integer: 39 digits, where nothing bounds it",
            with_arg("selftest.fail", at="9" * 39),
            Accept("a position that never comes"),
        ),
        Case('float: "1"', with_arg("selftest.spin", ms="1"), wrong('"1"', "ms", "a number")),
        Case("float: false", with_arg("selftest.spin", ms=False), wrong("false", "ms", "a number")),
        Case(
            "float: NaN",
            number("selftest.spin", "ms", math.nan, ranges=[piece(0, 1)]),
            wrong("NaN", "ms", "a number"),
        ),
        Case("float: 1e300", with_arg("selftest.spin", ms=1e300), wrong("1e+300", "ms", "at most 3600000")),
        Case("float: -1e-300", with_arg("selftest.spin", ms=-1e-300), wrong("-1e-300", "ms", "at least 0")),
        Case("boolean: 1", with_arg("selftest.hang", cpu=1), wrong("1", "cpu", "true or false")),
        Case(
            'boolean: "true"', with_arg("selftest.hang", cpu="true"), wrong('"true"', "cpu", "true or false")
        ),
    ],
)

ROLES: Group = (
    "Roles",
    [
        Case(
            "unknown role",
            run("file.crc32", {"dta": memfd()}),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                'source "dta": function "file.crc32" has no such role, wanted "data"',
                'spec.sources["dta"]',
            ),
        ),
        Case(
            "a role of 1 MiB",
            run("file.crc32", {"r" * (1 << 20): memfd()}),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                f'source "{"r" * 1013}...',
                f'spec.sources["{"r" * 239}...',
            ),
        ),
        Case(
            "one role too many",
            run("file.crc32", {"data": memfd(), "dst": memfd()}),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                'source "dst": function "file.crc32" has no such role, wanted "data"',
                'spec.sources["dst"]',
            ),
        ),
        Case(
            "a role missing",
            run("file.copy", {"src": memfd()}),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                'source "dst": got none, function "file.copy" needs it',
                'spec.sources["dst"]',
            ),
        ),
        Case(
            "a source for a function without any",
            run("selftest.noop", {"data": memfd()}),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                'source "data": function "selftest.noop" has no such role, wanted no source',
                'spec.sources["data"]',
            ),
        ),
        Case(
            "items for a function that takes none",
            run("mem.fill", items=[memfd(), memfd()]),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                'spec.items: got 2 items, function "mem.fill" takes none',
                "spec.items",
            ),
        ),
        Case(
            "items and the source that they stand for",
            run("file.crc32", {"data": memfd()}, items=[memfd()]),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                'spec.items: got items and source "data", wanted one of them',
                "spec.items",
            ),
        ),
        Case(
            "a source with neither handle nor path",
            run("file.copy", {"src": memfd(), "dst": nothing()}),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                'spec.sources["dst"]: got neither a handle nor a path, wanted one of them',
                'spec.sources["dst"]',
            ),
        ),
        Case(
            "an item with neither handle nor path",
            run("file.crc32", items=[memfd(), nothing()]),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                "spec.items[1]: got neither a handle nor a path, wanted one of them",
                "spec.items[1]",
            ),
        ),
        Case(
            "an empty handle and then an empty path, on the wire",
            run(
                "file.crc32",
                {"data": nothing()},
                tweak=lambda spec: spec.sources["data"].MergeFromString(b"\x0a\x00\x12\x00"),
            ),
            Refuse(
                "INVALID_ARGUMENT",
                "SOURCE_INVALID",
                'spec.sources["data"]: got neither a handle nor a path, wanted one of them',
                'spec.sources["data"]',
            ),
        ),
        Case(
            "a path and then a handle, on the wire",
            run(
                "file.crc32",
                {"data": memfd()},
                tweak=lambda spec: spec.sources["data"].ParseFromString(
                    b"\x12\x01/" + spec.sources["data"].SerializeToString()
                ),
            ),
            Accept("the last one counts, as in every oneof of protobuf", summed()),
        ),
    ],
)

GROUPS = [FUNCTIONS, ARGUMENTS, ROLES]
