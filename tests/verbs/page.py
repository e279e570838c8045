"""The page of all cases."""

from __future__ import annotations

from tests.support.users import REPOSITORY
from tests.verbs.cases import CASES
from tests.verbs.model import Case

PAGE = REPOSITORY / "docs" / "verbs.md"

_HEAD = """# Verbs beside the programs that people know

Made by `python -m tests.verbs` from the cases of `tests/verbs`; a test compares the two.
Each pair of lines runs in two directories with the same files. Standard output, exit status and all files
afterwards must be the same; standard error is written by both or by neither. The last
column gives the reason for a difference.
"""

_COLUMNS = "\n| case | known program | ktask | result |\n|---|---|---|---|\n"


def page() -> str:
    """The text of the page."""
    return _HEAD + "".join(
        f"\n## {verb}\n{_COLUMNS}{''.join(map(_row, cases))}" for verb, cases in CASES.items()
    )


def _row(case: Case) -> str:
    result = f"differs: {case.differs}" if case.differs else "same"
    return f"| {case.title} | {_code(case.model)} | {_code(case.ours)} | {result} |\n"


def _code(line: str) -> str:
    """A shell line as code in a cell of a table."""
    text = line.replace("|", "\\|").replace("\n", "; ")
    return f"`` {text} ``" if "`" in text else f"`{text}`"
