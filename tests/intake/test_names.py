"""A job keeps a limited number of names of limited length."""

from __future__ import annotations

import asyncio

from ktask.v1 import jobs_pb2 as pb

from ktaskd.api.convert import spec_in, spec_out
from ktaskd.intake.names import Names
from ktaskd.jobs.registry import digest_of
from ktaskd.model.limits import NAME_CHARS_KEPT, NAMES_CHARS_KEPT, NAMES_KEPT


def test_names_when_many_then_the_first_are_kept() -> None:
    names = Names()
    assert names.keep("") == ""
    kept = [names.keep(f"{i}") for i in range(NAMES_KEPT + 3)]
    assert kept == [f"{i}" for i in range(NAMES_KEPT)] + [""] * 3


def test_names_when_long_then_their_ends_are_kept_up_to_a_sum() -> None:
    names = Names()
    kept = [names.keep("d" * 1000 + f"/{i}") for i in range(NAMES_KEPT)]
    assert kept[0].endswith("d/0")
    assert len(kept[0]) == NAME_CHARS_KEPT
    assert sum(map(len, kept)) <= NAMES_CHARS_KEPT < sum(map(len, kept)) + NAME_CHARS_KEPT
    assert not any(kept[NAMES_CHARS_KEPT // NAME_CHARS_KEPT :])


def test_spec_when_it_has_names_then_they_are_shown_and_are_no_part_of_its_identity() -> None:
    message = pb.JobSpec(
        function="file.crc32", items=[pb.Source(handle=f"{i}", name=f"n{i}") for i in range(20)]
    )
    message.sources["data"].CopyFrom(pb.Source(path="/a", name="data of mine"))
    bare = pb.JobSpec()
    bare.CopyFrom(message)
    bare.sources["data"].name = ""
    for item in bare.items:
        item.name = ""
    spec, other = asyncio.run(spec_in(message)), asyncio.run(spec_in(bare))
    shown = spec_out(spec)
    assert shown.sources["data"].name == "data of mine"
    assert [item.name for item in shown.items] == [f"n{i}" for i in range(15)] + [""] * 5
    assert digest_of(spec) == digest_of(other)
