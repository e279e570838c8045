"""Every line of the log is `event_name key=value ...`: people, grep and the journal read it alike."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.arch.tree import Source, parsed, sources, within

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
TEXTS = {"error", "why", "what", "was", "how", "message", "means", "value", "threshold"}
"""Keys whose values may have blanks in them: those stand in quotes."""

_VALUE = r"%[-#0 +]*\d*(?:\.\d+)?[a-zA-Z]|[^\s\"%=]+"
DIALECT = re.compile(rf'[a-z]+(_[a-z]+)*( [a-z_]+=("%s"|{_VALUE}))*')

OF_THE_LIBRARY = {f"client/ktask/own/{name}.py" for name in ("bursts", "futures", "initial", "sockets")}
"""They log in the name of concurrent.futures, with its very words: programs look for those."""


def calls(source: Source) -> Iterator[tuple[ast.Call, str, list[ast.expr]]]:
    """Each call that logs, the logger as it is written, and the text with its values.

    `call_soon(log.info, text, ...)` logs as well, a little later.
    """
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            for method, words in ((node.func, node.args), *later(node)):
                if isinstance(method, ast.Attribute) and method.attr in LEVELS | {"log"}:
                    logger = ast.unparse(method.value)
                    if words and "log" in logger.lower():
                        yield node, logger, words[1:] if method.attr == "log" else words


def later(node: ast.Call) -> Iterator[tuple[ast.expr, list[ast.expr]]]:
    for i, word in enumerate(node.args):
        if isinstance(word, ast.Attribute):
            yield word, node.args[i + 1 :]


def reports(source: Source) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Each line that a process without logging writes (`ktaskd.host.logline`), and its text."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("logline.report", "report"):
            yield node, node.args[1]


def template(text: ast.expr) -> str | None:
    """The text with %s in the place of each value; None where it cannot be known."""
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return text.value
    if isinstance(text, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "%s" for part in text.values)
    return None


def complaint(text: str | None) -> str:
    """Returns the complaint about the text of a line; "" where nothing is."""
    if text is None:
        return "the text is not a constant"
    line = text.split("\n")[0]
    if not DIALECT.fullmatch(line):
        return f"not `event_name key=value ...`: {text!r}"
    bare = [key for key, quote in re.findall(r'([a-z_]+)=("?)%', line) if key in TEXTS and not quote]
    return f"needs quotes around the value of {bare[0]}: {text!r}" if bare else ""


def offences(chosen: list[Source]) -> list[str]:
    found = []
    for source in chosen:
        for node, logger, words in calls(source):
            wrong = complaint(template(words[0])) or ("" if logger.endswith("log") else f"logger {logger}")
            if isinstance(words[0], ast.JoinedStr):
                wrong = "the values are arguments, so that the journal has them as fields"
            if logger == "_log":
                wrong = "the logger of a module is called log"
            found += [f"{source.name}:{node.lineno}: {wrong}"] if wrong else []
        for node, text in reports(source):
            wrong = complaint(template(text))
            found += [f"{source.name}:{node.lineno}: {wrong}"] if wrong else []
    return found


def test_log_when_read_then_one_dialect() -> None:
    """Guards: S6"""
    chosen = [
        source
        for source in sources()
        if within(source.module, ("ktaskd", "ktask")) and source.name not in OF_THE_LIBRARY
    ]
    assert sum(1 for source in chosen for _ in calls(source)) >= 40
    assert sum(1 for source in chosen for _ in reports(source)) >= 3
    assert not offences(chosen)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ('log.info("event=ready dir=%s", d)', "not `event_name"),
        ('log.info("Something went wrong")', "not `event_name"),
        ('log.info("governor reason=%s off", r)', "not `event_name"),
        ('log.info("close_failed error=%s", e)', "needs quotes"),
        ('log.info(f"ready dir={d}")', "arguments"),
        ("log.info(text)", "not a constant"),
        ('_log.info("ready")', "called log"),
        ('log.log(level, "Ready dir=%s", d)', "not `event_name"),
        ('loop.call_soon(log.info, "job ended id=%s", d)', "not `event_name"),
        ('logline.report(NAME, f"{error}")', "not `event_name"),
    ],
)
def test_offences_when_a_line_is_in_another_dialect_then_named(code: str, word: str) -> None:
    (found,) = offences([parsed("x.py", "x", code)])
    assert word in found


@pytest.mark.parametrize(
    "code",
    [
        'log.info("ready dir=%s version=%s cpus=%.1f", d, v, n)',
        "log.error('close_failed error=\"%s\"', e)",
        'log.log(level, "worker_killed job=%s reason=grace_over", j)',
        'loop.call_soon(log.info, "job_ended id=%s", d)',
        'logline.report(NAME, f"not_served pid={pid}", "WARNING")',
        "print(log.info)",
    ],
)
def test_offences_when_a_line_is_in_the_dialect_then_none(code: str) -> None:
    assert not offences([parsed("x.py", "x", code)])
