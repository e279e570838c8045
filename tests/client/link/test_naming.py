"""Errors name files by the paths that the caller gave."""

from __future__ import annotations

from pathlib import Path

import ktask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.link.naming import name_in_job, names_of, with_names
from ktask.v1 import jobs_pb2 as pb

from tests.client.shell import ktask as command


def test_message_when_it_names_a_role_then_the_path_stands_behind_it() -> None:
    names = names_of({"dst": "/srv/copy", "src": b"/a\xff", "data": Path("x")}, ["/one", "/two"])
    assert with_names('source "dst": no space left', names) == 'source "dst" ("/srv/copy"): no space left'
    assert with_names('source "src": truncated', names) == 'source "src" ("/a\\xff"): truncated'
    assert with_names("item 1: opened read-only", names) == 'item 1 ("/two"): opened read-only'
    assert with_names('source "other": x', names) == 'source "other": x'
    with ktask.memory(1) as memory:
        assert names_of({"data": memory}) == {}


@given(st.text(), st.dictionaries(st.sampled_from(["data", "dst", "0"]), st.text(max_size=5)))
def test_message_when_of_any_text_then_nothing_of_it_is_lost(text: str, names: dict[str, str]) -> None:
    named = with_names(text, names)
    rest = iter(named)
    assert all(letter in rest for letter in text)


def test_ranges_when_a_job_failed_then_it_is_said_whose_they_are() -> None:
    function = pb.Function(
        unit="byte",
        sources=[
            pb.FunctionSource(role="src", access=pb.ACCESS_READ),
            pb.FunctionSource(role="dst", access=pb.ACCESS_WRITE),
        ],
    )
    job = pb.Job(error=pb.JobError(message='source "dst": full', dirty=[pb.Span(start=1, end=2)]))
    name_in_job(job, {"src": "/s", "dst": "/d"}, function)
    assert job.error.message == 'source "dst" ("/d"): full; the ranges are bytes of "/d"'
    clean = pb.Job(error=pb.JobError(message='source "src": gone'))
    name_in_job(clean, {"src": "/s"}, function)
    assert clean.error.message == 'source "src" ("/s"): gone'


def test_command_and_library_when_a_file_is_not_as_wanted_then_both_name_it(
    real: Path, tmp_path: Path
) -> None:
    short, out = tmp_path / "short", tmp_path / "out"
    short.write_bytes(b"no archive")
    done = command(real, "run", "file.decompress", f"src={short}", f"dst={out}")
    assert done.status == 1
    assert f'source "src" ("{short}"): ' in done.err
    with ktask.connect(real) as client:
        with pytest.raises(ktask.JobFailed, match="source") as caught:
            client.run("file.decompress", src=short, dst=out)
        assert f'source "src" ("{short}"): ' in str(caught.value)
        with pytest.raises(ktask.KtaskError) as refused:
            client.run("mem.copy", src=short, dst=out)
        assert f'source "src" ("{short}"): a file on ' in str(refused.value)
