"""A small run of `make against`."""

from __future__ import annotations

from pathlib import Path

import ktask
import pytest

from ktaskd.functions.catalogue import CATALOGUE
from tests.against import __main__ as against
from tests.against.checks import CHECKS
from tests.against.inputs import MIB
from tools.private import private_daemon, temporary_directory


def test_checks_when_listed_then_all_functions_have_one() -> None:
    offered = {name for name, declaration in CATALOGUE.items() if not declaration.selftest}
    assert {name.split()[0] for name in CHECKS} == offered


@pytest.mark.timeout(300)
def test_functions_when_beside_other_tools_then_equal() -> None:
    with (
        temporary_directory("ktaskd-against-") as directory,
        private_daemon(directory) as runtime,
        ktask.connect(runtime) as client,
    ):
        wrong = [line for line in against.compare_all(client, Path(directory), 20 * MIB, 100) if not line[0]]
    assert wrong == []
