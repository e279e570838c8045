"""Lines of checksums: what is printed is read back, and nothing else is taken for a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.cli.sums.lines import DIGITS, Expected, Lines, format_sum

NAMES = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name)
ALGORITHMS = st.sampled_from(sorted(DIGITS))


def digest_of(algorithm: str, number: int) -> str:
    return f"{number:0{DIGITS[algorithm]}x}"


def entries(content: bytes, given_algorithm: str | None) -> list[Expected | None]:
    return [entry for _, entry in Lines(given_algorithm).read(content, is_input=False)]


@given(st.lists(NAMES, max_size=4), ALGORITHMS, st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_lines_when_printed_then_read_back(
    names: list[bytes], algorithm: str, number: int, tag: bool, binary: bool
) -> None:
    listed = [Expected(name, algorithm, digest_of(algorithm, number)) for name in names]
    content = b"".join(format_sum(one, tag=tag, binary=binary, zero=False) for one in listed)
    assert content.count(b"\n") == len(names)
    assert entries(content, algorithm) == listed
    if tag:
        assert entries(content, None) == listed


@given(st.binary(max_size=200))
def test_content_when_of_any_bytes_then_entries_with_names(content: bytes) -> None:
    for entry in entries(content, None):
        assert entry is None or (entry.name and b"\0" not in entry.name)


@pytest.mark.parametrize("algorithm", sorted(DIGITS))
def test_line_when_a_digit_is_missing_then_no_entry(algorithm: str) -> None:
    digest = digest_of(algorithm, 7)[1:]
    for line in (f"{digest}  name", f"{algorithm.upper()} (name) = {digest}"):
        assert entries(line.encode(), algorithm) == [None]


def test_line_when_it_names_no_algorithm_then_only_that_of_the_caller_is_sure() -> None:
    line = b"0" * 64 + b"  name"
    assert entries(line, None) == [Expected(b"name", "sha256", "0" * 64, sure=False)]
    assert entries(line, "blake3") == [Expected(b"name", "blake3", "0" * 64)]
    assert entries(line, "crc32") == [None]


@pytest.mark.parametrize(("digits", "algorithm"), [(128, "sha512"), (16, "xxh3"), (8, None), (40, None)])
def test_line_when_only_its_digits_tell_then_its_algorithm_or_no_entry(
    digits: int, algorithm: str | None
) -> None:
    wanted = None if algorithm is None else Expected(b"name", algorithm, "0" * digits)
    assert entries(b"0" * digits + b"  name", None) == [wanted]
