"""Regular expressions for the tests of searching and of matching, and how often they are tried."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

EXPRESSIONS = [
    "^a",
    "b$",
    "^$",
    "a.b",
    "[^a]",
    "a|b",
    r"\Aa",
    r"b\z",
    "a*",
    r"\bA",
    "(?i)ab",
    r"x\Ca",
    "(?-i)a",
    r"\Qa\E",
    r"[\n]",
    r"\s|\W",
    "(a|b)+$",
    r"\Qa.\E|b",
    r"\Qb\Ec",
    r"(?m-s)^a.",
    "(?s-m:^b.$)",
    "(?-m:a$)",
    r"\Ba",
    "(?s).b",
    "(?U)a+b*",
    "(?P<x>a)(b)?",
    r"\pL|[[:digit:]]",
    "^ab$",
    "x*",
    "a.*?b.*x",
    "(ab??|b+?)A",
    r"[]\]a-]b|[^]a]b",
    "[[:alpha:](?P<x>]b",
    r"(?<y>^[(?-m])|\AA",
    "[^b]{3,}",
    ".ä",
]
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
