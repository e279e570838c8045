"""The file is written again and again."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from ktaskd.metrics import filing, textfile
from ktaskd.metrics.filing import Filing


def test_filing_when_the_directory_comes_later_then_the_trouble_is_logged_once_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, texts = tmp_path / "later" / "k.prom", list[bytes]()

    def text() -> bytes:
        texts.append(b"%d" % len(texts))
        return texts[-1]

    async def story() -> None:
        made = Filing(os.fspath(path), text, 0.001)
        made.start()
        while len(texts) < 4:
            await asyncio.sleep(0.001)
        assert "No such file or directory" in made.trouble
        path.parent.mkdir()
        while not path.exists() or made.trouble:
            await asyncio.sleep(0.001)
        seen = path.read_bytes()
        while path.read_bytes() == seen:
            await asyncio.sleep(0.001)
        await made.close()

    asyncio.run(story())
    assert not os.listdir(path.parent)
    assert caplog.text.count("metrics_not_written") == 1


def test_close_when_the_disk_does_not_answer_then_it_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, begun, go = tmp_path / "k.prom", threading.Event(), threading.Event()
    write = textfile.write

    def hang(where: str, text: bytes) -> None:
        begun.set()
        go.wait()
        write(where, text)

    monkeypatch.setattr(textfile, "write", hang)
    monkeypatch.setattr(filing, "LAST_S", 0.01)

    async def story() -> None:
        one = Filing(os.fspath(path), lambda: b"text", 0.001)
        one.start()
        while not begun.is_set():
            await asyncio.sleep(0.001)
        await one.close()

    before = set(threading.enumerate())
    asyncio.run(story())
    left = set(threading.enumerate()) - before
    assert left
    assert all(thread.daemon for thread in left)
    go.set()
    for thread in left:
        thread.join()
    assert not os.listdir(tmp_path)  # removed after the write that was under way
