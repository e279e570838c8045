"""Words of the command line become values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.cli import arguments
from ktask.cli.arguments import UsageError
from ktask.cli.parsers import parse

from tests.client.fake_messages import FUNCTIONS

BLOCK = next(one for one in FUNCTIONS if one.name == "fake.block")
FILL = next(one for one in FUNCTIONS if one.name == "mem.fill")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("4096", 4096),
        ("7B", 7),
        ("1K", 1024),
        ("1k", 1024),
        ("2KiB", 2048),
        ("3M", 3 << 20),
        ("3MiB", 3 << 20),
        ("1g", 1 << 30),
        ("2T", 2 << 40),
    ],
)
def test_size_when_with_a_unit_then_binary(text: str, value: int) -> None:
    assert arguments.size(text) == value


@pytest.mark.parametrize(
    "text", ["", "K", "-1", "1.5G", "1 K", "0x10", "1KB", "1Q", "1e9", "٣", "9" * 30, "8388608T"]
)
def test_size_when_none_then_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="size: got"):
        arguments.size(text)


def test_range_when_with_and_without_a_node_then_read() -> None:
    assert arguments.job_range("0:10") == (0, 10)
    assert arguments.job_range("4K:1M@2") == (4096, 1 << 20, 2)
    assert arguments.job_range("0:1@-1") == (0, 1, -1)


@pytest.mark.parametrize("text", ["", "1", "1:2:3", "a:b", "1:2@", "1:2@x", "-1:2", ":", "1@2:3"])
def test_range_when_none_then_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        arguments.job_range(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("15 min", 900), ("1.5h", 5400), ("2d", 172800), ("0.25s", 0.25)],
)
def test_duration_when_with_a_unit_then_seconds(text: str, seconds: float) -> None:
    assert arguments.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "h", "1w", "1e3", "nan", "9" * 12, "900000d", "٣s"])
def test_duration_when_none_then_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="time: got"):
        arguments.duration(text)


@given(st.text(max_size=20))
def test_words_when_anything_then_a_value_or_a_usage_error(text: str) -> None:
    for read in (arguments.size, arguments.job_range, arguments.count, arguments.duration):
        try:
            read(text)
        except UsageError:
            continue


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "-7", -7),
        ("count", "0x10", 16),
        ("count", str(2**60), 2**60),
        ("ratio", "0.25", 0.25),
        ("ratio", "1", 1.0),
        ("on", "true", True),
        ("on", "Off", False),
        ("text", "7", "7"),
        ("text", "a=b", "a=b"),
        ("text", "", ""),
    ],
)
def test_arg_when_declared_then_of_its_type(name: str, text: str, value: object) -> None:
    found = arguments.convert({name: text}, BLOCK)
    assert found == {name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("count", "x", 'argument "count": got "x", wanted an integer'),
        ("count", "1.0", "wanted an integer"),
        ("ratio", "nan", "wanted a number"),
        ("ratio", "", "wanted a number"),
        ("on", "maybe", "wanted true or false"),
        (
            "nope",
            "1",
            'argument "nope": function "fake.block" has no such argument, wanted count, ratio, on, text',
        ),
    ],
)
def test_arg_when_wrong_then_the_error_names_a_valid_value(name: str, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        arguments.convert({name: text}, BLOCK)
    assert words in str(caught.value)


def test_arg_when_sources_follow_it_then_the_declaration_decides_which_is_which() -> None:
    groups = [["value=7", "data=/x=y"], ["data=1"]]
    assert arguments.divide(groups, FILL) == ([("value", "7"), ("data", "1")], [("data", "/x=y")])
    with pytest.raises(UsageError, match="KEY=VALUE"):
        arguments.divide([["value"]], FILL)


def test_parse_when_options_stand_anywhere_then_understood() -> None:
    options = parse(["--json", "run", "--max-threads", "2", "file.copy", "src=a", "--no-undo", "dst=b"])
    assert (options.function, options.sources, options.max_threads) == ("file.copy", ["src=a", "dst=b"], 2)
    assert (options.json, options.no_undo, options.socket) == (True, True, None)
    assert parse(["--socket", "/a", "jobs"]).socket == "/a"
    assert parse(["jobs", "--socket", "/a", "--json"]).json
    assert parse(["--socket", "/a", "jobs", "--socket", "/b"]).socket == "/b"
    assert parse(["run", "f", "--items", "a", "b", "--arg", "x=1", "--arg", "y=2"]).arg == [["x=1"], ["y=2"]]
    assert parse(["run", "f", "--", "-a=b"]).sources == ["-a=b"]


@pytest.mark.parametrize(
    "words",
    [
        ["frob"],
        ["--frob"],
        ["run"],
        ["jobs", "--frob"],
        ["jobs", "extra"],
        ["show"],
        ["run", "f", "--max-threads", "-1"],
        ["run", "f", "--max-threads", "two"],
        ["run", "f", "--max-thr", "2"],
        ["run", "f", "--min-chunk", "1KB"],
        ["run", "f", "--progress", "maybe"],
        ["--socket", "", "jobs"],
        ["hold"],
        ["mode", "off"],
        ["mode", "paused", "--for", "ever"],
        ["mode", "paused", "1h"],
    ],
)
def test_parse_when_wrong_then_a_usage_error(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)
