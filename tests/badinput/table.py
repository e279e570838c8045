"""All cases, and the page that is made from them."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from tests.badinput import calls, changes, descriptors, given, limits, messages, names, positions, request_ids
from tests.badinput.case import Accept, Case, End, Group, Refuse, slug
from tests.support.users import REPOSITORY

PAGE = REPOSITORY / "docs" / "bad-input.md"

GROUPS: list[Group] = [
    *names.GROUPS,
    *positions.GROUPS,
    *given.GROUPS,
    *descriptors.GROUPS,
    *changes.GROUPS,
    *limits.GROUPS,
    *request_ids.GROUPS,
    *messages.GROUPS,
    *calls.GROUPS,
]

CASES: dict[str, Case] = {}
"""All cases, by the name of their test."""

for _title, _cases_of_it in GROUPS:
    for _case in _cases_of_it:
        _name = f"{slug(_title)}-{slug(_case.what)}"
        assert _name not in CASES, f"two cases are named {_name}"
        CASES[_name] = _case

HEAD = """# Bad input and its results

Made by `python -m tests.badinput` from the cases that `tests/badinput` runs
against a real daemon; a test compares the two. In a message, "…" stands for
parts that differ each time.

Refused input leaves nothing behind: no job, no handle, no descriptor in
any process of the daemon, and no changed byte. Input marked *accepted* only
looks bad: the job does what it says, and no byte outside its ranges changes.

* *Code* is the gRPC status code. `handoff` means that the handoff socket
  answered with an ERROR reply instead.
* *Reason* is the `reason` of `google.rpc.ErrorInfo`, whose domain is `ktask`.
  If it is empty, the gRPC library refused the call before the daemon saw it.
* *Field* is the field of `google.rpc.BadRequest`, or the descriptor.
* A job that was accepted and ended badly is no error of the call: its state,
  `error.reason` and `error.errno` are in the row.
"""

COLUMNS = "| input | code | reason | field | message |\n|---|---|---|---|---|\n"


def page() -> str:
    """The text of the page."""
    sections = [f"## {title}\n\n{COLUMNS}{''.join(_row(case) for case in cases)}" for title, cases in GROUPS]
    return "\n".join([HEAD, *sections])


def write(path: Path = PAGE) -> None:
    """Make the page."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(page())


def _row(case: Case) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in (case.what, *_cells(case)))} |\n"


def _cells(case: Case) -> tuple[str, str, str, str]:
    wanted = case.wanted
    if isinstance(wanted, Refuse):
        return wanted.code, wanted.reason, _code(wanted.field), _code(wanted.message)
    if isinstance(wanted, End):
        reason = f"{wanted.reason} {errno.errorcode[wanted.errno]}"
        return f"OK, job {wanted.state}", reason, "", _code(wanted.message)
    assert isinstance(wanted, Accept)
    return "OK", "", "", f"*accepted*: {wanted.why}"


def _code(text: str) -> str:
    """The text as code, without characters that end a row or code, and with long runs of one shortened."""
    printable = re.sub(r"(.)\1{31,}", r"\1\1\1…", text.replace("\0", "␀"))
    quotes = "``" if "`" in printable else "`"
    return f"{quotes}{printable}{quotes}" if printable else ""


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
