"""Each rule has a test, and the index from rule to test is that of the tests."""

from __future__ import annotations

from tests.arch.rules import INDEX, Guard, guards, guards_of, index, rules, rules_of
from tests.arch.tree import parsed

DOCUMENT = """
| | holds | more |
|---|---|---|
| I1 | Nothing is lost. | `x` |
| S2 | Imports go down. |
| IV | no rule |
"""

CODE = '''
"""Tests of a module.

Guards: I1
"""
def test_one():
    """It holds.

    Guards: I1, S2
    """
async def test_two():
    """Guards: S2"""
def test_three():
    "Nothing about Guards: I1 in the midst of a line."
'''


def test_rules_when_a_document_has_tables_then_its_numbered_rows() -> None:
    assert rules_of(DOCUMENT) == {"I1": "Nothing is lost.", "S2": "Imports go down."}


def test_guards_when_in_docstrings_of_modules_and_tests_then_named() -> None:
    found = set(guards_of(parsed("tests/test_x.py", "tests.test_x", CODE)))
    one, two = "tests/test_x.py::test_one", "tests/test_x.py::test_two"
    assert found == {Guard("I1", "tests/test_x.py"), Guard("I1", one), Guard("S2", one), Guard("S2", two)}


def test_index_when_made_then_each_rule_has_its_guards() -> None:
    text = index({"I1": "Nothing is lost."}, [Guard("I1", "tests/a.py"), Guard("I2", "tests/b.py")])
    assert text.endswith("## I1\n\nNothing is lost.\n\n- `tests/a.py`\n")


def test_rules_when_listed_then_each_has_a_guard_and_each_guard_a_rule() -> None:
    known, guarded = rules(), {guard.rule for guard in guards()}
    assert {name[0] for name in known} == {"I", "S"}
    assert not known.keys() - guarded, "no test has a line `Guards: ...` for these rules"
    assert not guarded - known.keys(), "no document has these rules"


def test_index_when_committed_then_what_the_tests_say() -> None:
    """Guards: S8"""
    assert INDEX.read_text() == index(rules(), guards()), "run `.venv/bin/python -m tests.arch.rules`"
