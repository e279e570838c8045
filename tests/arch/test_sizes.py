"""Files and functions stay small enough to be read at once.

Guards: S4
"""

from __future__ import annotations

from tests.arch.tree import sources

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60


def test_files_when_counted_then_below_the_ceiling() -> None:
    lengths = {source.name: len(source.text.splitlines()) for source in sources()}
    assert not {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX}


def test_functions_when_counted_then_below_the_ceiling() -> None:
    long = [
        f"{source.name}: {name} has {lines} lines"
        for source in sources()
        for name, lines in source.functions()
        if lines > FUNCTION_LINES_MAX
    ]
    assert not long
