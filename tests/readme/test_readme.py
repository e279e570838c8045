"""Every block of README works as written, from an empty home directory, as root and as a user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme.blocks import blocks, commands
from tests.readme.plan import LEFT_OUT, all_steps, programs
from tests.readme.transcript import PAGE, READER, failures, play, steady

BOTH = """# One

Text, and a list:

* first
    not code, since no line is empty before it

    a=1; echo $a

    echo "two
    lines"

## Two

```python
print()
```
"""


def test_blocks_when_indented_and_fenced_then_all_of_them() -> None:
    first, second = blocks(BOTH)
    assert (first.heading, first.line, first.language) == ("One", 8, "sh")
    assert (second.heading, second.language, second.text) == ("Two", "python", "print()\n")
    assert list(commands(first.text)) == ["a=1; echo $a", 'echo "two\nlines"']


def test_commands_when_a_here_document_then_one_command() -> None:
    assert list(commands("cat > f <<'E'\nif x; {\nE\nls\n")) == ["cat > f <<'E'\nif x; {\nE", "ls"]
    with pytest.raises(AssertionError, match="never complete"):
        list(commands("for i in 1 2; do\n"))


def test_blocks_when_left_out_then_each_of_them_is_there() -> None:
    left_out = [step.block.first_line for step in all_steps() if not step.commands]
    assert len(left_out) == len(LEFT_OUT)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "uid",
    [
        pytest.param(0, marks=pytest.mark.other_uid, id="root"),
        pytest.param(READER, marks=[pytest.mark.other_uid, pytest.mark.open_checkout], id="user"),
    ],
)
def test_readme_when_typed_from_an_empty_home_then_every_command_ends_well(uid: int) -> None:
    chapters = play(uid)
    assert not failures(chapters), "\n".join(failures(chapters))
    printed = {one.command: one.output for chapter in chapters for one in chapter.done}
    assert "crc32: " in printed["ktask run file.crc32 data=big.iso"]
    (own,) = (text for command, text in printed.items() if command.startswith("python3") and "value" in text)
    assert str(2**100) in own


def test_transcript_when_readme_has_changed_then_written_again() -> None:
    """The output differs from machine to machine; the commands do not."""
    kept = PAGE.read_text()
    for step in all_steps():
        for command in step.commands:
            first = steady(command).strip().partition("\n")[0]
            assert kept.count(f"    $ {first}\n") >= 2, f"python -m tests.readme, for: {first}"


def test_python_blocks_when_checked_then_mypy_finds_nothing(tmp_path: Path) -> None:
    files = programs(tmp_path)
    assert len(files) == 3
    options = ["--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}"]
    command: list[str | Path] = [sys.executable, "-m", "mypy", *options, *files]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
