"""The file is written again and again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ktaskd.metrics.filing import Filing


def test_filing_when_the_directory_comes_later_then_the_trouble_is_logged_once_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, texts = tmp_path / "later" / "k.prom", list[bytes]()

    def text() -> bytes:
        texts.append(b"%d" % len(texts))
        return texts[-1]

    async def story() -> None:
        filing = Filing(os.fspath(path), text, 0.001)
        filing.start()
        while len(texts) < 4:
            await asyncio.sleep(0.001)
        assert "No such file or directory" in filing.trouble
        path.parent.mkdir()
        while not path.exists() or filing.trouble:
            await asyncio.sleep(0.001)
        seen = path.read_bytes()
        while path.read_bytes() == seen:
            await asyncio.sleep(0.001)
        await filing.close()

    asyncio.run(story())
    assert not os.listdir(path.parent)
    assert caplog.text.count("metrics_not_written") == 1
