"""The memory policy, read back from the kernel in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktaskd.host.memory import mempolicy
from tests.host.ownprocess import in_own_process


def test_mempolicy_when_preferred_then_read_back() -> None:
    nid = int(Path("/sys/devices/system/node/has_memory").read_text().strip().split(",")[0].split("-")[0])
    code = (
        "print(mempolicy.read_mempolicy())\n"
        "try:\n"
        f"    mempolicy.apply_preferred({nid})\n"
        "except PermissionError:\n"
        "    print('forbidden')\n"
        "else:\n"
        "    print(mempolicy.read_mempolicy())\n"
    )
    lines = in_own_process(code)
    if lines[1] == "forbidden":
        pytest.skip("mempolicy: forbidden here, as in many containers")
    assert lines == ["default", f"prefer:{nid}"]


@pytest.mark.parametrize("nid", [-1, 1024])
def test_mempolicy_when_no_node_can_have_that_number_then_refused(nid: int) -> None:
    with pytest.raises(ValueError, match="nid"):
        mempolicy.apply_preferred(nid)


@pytest.mark.parametrize(
    ("mode", "nodes", "words"),
    [
        (0, [], "default"),
        (1, [1], "prefer:1"),
        (2, [0, 3], "bind:0,3"),
        (1 | 0x8000, [2], "prefer:2"),
        (4, [], "local"),
    ],
)
def test_mempolicy_when_described_then_in_words(mode: int, nodes: list[int], words: str) -> None:
    assert mempolicy.describe(mode, nodes) == words
