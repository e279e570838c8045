"""Setting the mode from the client.

Tests: client/ktask/client.py
"""

from __future__ import annotations

from typing import Any

import ktask
import pytest

from tests.client.fake import FakeDaemon


def test_mode_when_set_then_sent_and_the_status_comes_back(fake: FakeDaemon, client: ktask.Client) -> None:
    assert client.set_mode("Always").mode == "ALWAYS"
    until = client.set_mode("paused", 90.5).mode_until
    assert until is not None
    assert until.timestamp() == 1_800_000_090
    assert [(one.duration.seconds, one.duration.nanos) for one in fake.modes] == [(0, 0), (90, 500_000_000)]


@pytest.mark.parametrize(
    ("mode", "seconds", "error"),
    [
        ("off", None, ValueError),
        ("unspecified", None, ValueError),
        (3, None, TypeError),
        ("paused", 0, ValueError),
        ("paused", float("nan"), ValueError),
        ("paused", 1e300, ValueError),
        ("paused", True, TypeError),
        ("paused", "1h", TypeError),
    ],
)
def test_mode_when_none_then_nothing_is_sent(
    fake: FakeDaemon, client: ktask.Client, mode: Any, seconds: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"mode: got|seconds: got"):
        client.set_mode(mode, seconds)
    assert fake.modes == []
