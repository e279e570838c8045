"""A function of the caller's own, whose undo reverts exactly its work."""

from __future__ import annotations

import base64
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
from ktask.v1 import code

from tests.fault.work import GUARD, Work, file, memory, noise, size_of


def flip(data: Any, start: int, end: int, arg: int) -> int:
    """Flip some bits; flipping twice restores them."""
    numbers = np.frombuffer(data.read(start, end), np.uint8) ^ np.uint8(arg)
    data.write(start, numbers.tobytes())
    return end - start


def run(rng: random.Random, place: Path) -> Work:
    """In place, between what must not be touched."""
    before, mask = noise(rng, size_of(rng, 4, 12)), rng.randrange(1, 256)
    start, length = GUARD, len(before) - 2 * GUARD
    fd = memory(before, rng) if rng.random() < 0.5 else file(place, before, os.O_RDWR)
    numbers = np.frombuffer(before[start : start + length], np.uint8) ^ np.uint8(mask)
    undo = flip if rng.random() < 0.7 else None
    fields = {
        "arg": {"writes": True, "undo": undo is not None},
        "ranges": [{"start": str(start), "length": str(length)}],
        "min_chunk": str(rng.choice([0, 100_000, 1 << 20])),
    }
    pickled = code.pack((flip, undo, sum, mask))
    result = {"value": base64.b64encode(code.dumps(length)).decode()}
    sources = {"data": fd, "code": memory(pickled, rng)}
    after = before[:start] + numbers.tobytes() + before[start + length :]
    return Work("python.run", fields, sources, target=fd, before=before, after=after, result=result)
