"""Every error that a caller may see can be told from the others.

Guards: S7
"""

from __future__ import annotations

import importlib
import re
from collections import Counter

from ktaskd.model.errors import Code, KtaskError
from tests.arch.tree import sources, within


def subclasses(base: type[KtaskError]) -> list[type[KtaskError]]:
    direct = base.__subclasses__()
    return direct + [deeper for one in direct for deeper in subclasses(one)]


def test_errors_when_listed_then_each_has_a_reason_of_its_own() -> None:
    for source in sources():
        if within(source.module, ("ktaskd",)) and "KtaskError" in source.text:
            importlib.import_module(source.module)
    errors: list[type[KtaskError]] = [KtaskError, *subclasses(KtaskError)]
    assert len(errors) > 10
    counts = Counter(error.reason for error in errors)
    assert [reason for reason, times in counts.items() if times > 1] == []
    assert [error for error in errors if not re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", error.reason)] == []
    assert [error for error in errors if not isinstance(error.code, Code)] == []


def test_codes_when_compared_then_numbered_as_grpc_does() -> None:
    import grpc

    numbers = {code.name: code.value[0] for code in grpc.StatusCode}
    assert {code.name: code.value for code in Code} == {code.name: numbers[code.name] for code in Code}
