"""Jobs with known results for the campaign, over all functions."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.fault.work import Work
from tests.fault.works import content, digests, own, selftests, storage, writing

Maker = Callable[[random.Random, Path], Work]

MAKERS: Mapping[str, Sequence[Maker]] = {
    "array.map": (content.change,),
    "array.reduce": (content.total,),
    "file.allocate": (storage.allocate,),
    "file.blake3": (digests.blake3_items,),
    "file.compare": (storage.compare,),
    "file.compress": (content.compress,),
    "file.copy": (writing.copy_files, writing.copy_memory, writing.copy_part),
    "file.crc32": (digests.crc_memory, digests.crc_holes, digests.crc_file, digests.crc_items),
    "file.crc32c": (digests.crc32c_memory,),
    "file.decompress": (content.decompress,),
    "file.manifest": (digests.manifest_blocks,),
    "file.punch": (storage.punch,),
    "file.sha256": (digests.sha256_items, digests.one_digest),
    "file.sha512": (digests.sha512_items,),
    "file.verify": (digests.verify_blocks,),
    "file.warm": (storage.warm,),
    "file.xxh3": (digests.xxh3_items,),
    "mem.copy": (writing.copy_in_memory,),
    "mem.fill": (writing.fill,),
    "mem.pattern": (writing.pattern,),
    "mem.populate": (writing.populate,),
    "text.extract": (content.extract,),
    "text.search": (content.search, content.search_items),
    "selftest.noop": (selftests.noop,),
    "selftest.spin": (selftests.spin,),
    "selftest.undo_log": (selftests.log, selftests.bad_log),
}
"""By function."""

OWN: Mapping[str, Sequence[Maker]] = {
    "python.run": (own.run,),
    "file.crc32": (digests.crc_memory,),
    "mem.fill": (writing.fill,),
}
"""For a daemon of the caller's own: code of its, between jobs whose workers give up what that may use."""


def make(i: int, seed: int, place: Path, functions: Mapping[str, Sequence[Maker]] = MAKERS) -> Work:
    """The work number `i`: all functions in turn, with all kinds of each, different every time."""
    rng = random.Random(f"{seed}/{i}")
    turn, function = divmod(i, len(functions))
    makers = functions[tuple(functions)[function]]
    maker = makers[turn % len(makers)]
    work = maker(rng, place)
    work.kind = maker.__name__
    if rng.random() < 0.5:
        work.fields["max_threads"] = rng.choice([1, 2, 3, 16])
    if rng.random() < 0.1:
        work.fields["undo"] = False
    return work
