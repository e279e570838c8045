"""Labels from the command line and from Python, by which jobs are found again.

Tests: client/ktask/cli/arguments.py, client/ktask/client.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import ktask
import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.client.shell import ktask as command
from tests.support.real_daemon import Daemon, connected, refused, running

NOOP = ("selftest.noop", "--range", "0:1")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("labels") / "run", "--own-user") as started:
        yield started


def ids(daemon: Daemon, *words: str) -> set[str]:
    """The jobs that `ktask jobs` lists."""
    done = command(daemon.place, "--json", "jobs", *words)
    assert done.status == 0, done.err
    return {job["id"] for job in json.loads(done.out).get("jobs", [])}


def test_command_when_labels_are_given_then_shown_and_found_by(daemon: Daemon) -> None:
    words = ("--label", "build=7", "--label", "of=a=b", "--label", "empty=")
    done = command(daemon.place, "--json", "run", *NOOP, *words)
    assert done.status == 0, done.err
    job = json.loads(done.out)
    assert job["spec"]["labels"] == {"build": "7", "of": "a=b", "empty": ""}
    other = command(daemon.place, "run", *NOOP, "--detach", "--label", "build=8").out.strip()
    assert ids(daemon, "--label", "build=7") == {job["id"]}
    assert ids(daemon, "--label", "build=7", "--label", "of=a=b") == {job["id"]}
    assert ids(daemon, "--label", "build=7", "--label", "of=x") == set()
    assert ids(daemon) >= {job["id"], other}
    shown = command(daemon.place, "show", job["id"]).out
    assert [line.split(None, 1)[1] for line in shown.splitlines() if line.startswith("labels:")] == [
        "build=7 empty= of=a=b"
    ]
    head, *rows = command(daemon.place, "jobs").out.splitlines()
    assert head.split()[-1] == "LABELS"
    assert [row for row in rows if row.endswith("  build=7 empty= of=a=b")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", *NOOP, "--label", "build"), 'got "build", wanted KEY=VALUE'),
        (("run", *NOOP, "--label", "=x"), 'got "=x", wanted KEY=VALUE'),
        (("run", *NOOP, "--label", "a=1", "--label", "a=2"), 'label "a": given twice'),
        (("run", *NOOP, *(f"--label={i}=x" for i in range(17))), "spec.labels: got 17 labels"),
        (("run", *NOOP, "--label", "a=" + "x" * 256), 'spec.labels["a"]: got 257 bytes'),
        (("jobs", "--label", "build"), 'got "build", wanted KEY=VALUE'),
        (("jobs", *(f"--label={i}=x" for i in range(17))), "labels: got 17 labels, wanted at most 16"),
    ],
)
def test_command_when_a_label_cannot_be_right_then_2_and_why(
    daemon: Daemon, words: tuple[str, ...], says: str
) -> None:
    done = command(daemon.place, *words)
    assert (done.status, done.out) == (2, "")
    assert says in done.err


def test_python_when_labels_are_given_then_each_kind_of_job_has_them(daemon: Daemon) -> None:
    with ktask.connect(daemon.place) as client:
        ran = client.run("selftest.noop", ranges=[(0, 1)], labels={"kind": "run"})
        sent = client.submit("selftest.noop", ranges=[(0, 1)], labels={"kind": "submit"})
        own = client.run(lambda data, *_: None, ranges=[(0, 1)], labels={"kind": "own"})
        with ktask.Executor(1, client=client, labels={"kind": "executor"}) as executor:
            assert executor.submit(abs, -1).result() == 1
        assert list(client.map(abs, [-1, -2], labels={"kind": "map"})) == [1, 2]
        found = {job.spec.labels["kind"]: job for job in client.jobs() if "kind" in job.spec.labels}
        assert found.keys() == {"run", "submit", "own", "executor", "map"}
        for kind, job in (("run", ran), ("submit", sent), ("own", own)):
            assert [one.id for one in client.jobs(labels={"kind": kind})] == [job.id]
        assert {found[kind].function for kind in ("executor", "map")} == {"python.calls"}


@pytest.mark.parametrize("labels", [{"": "x"}, {"a=b": "x"}, {"a": 1}, ["a"], "a=b"])
def test_python_when_labels_cannot_be_right_then_refused_at_once(daemon: Daemon, labels: object) -> None:
    with ktask.connect(daemon.place) as client:
        for call in (
            lambda: client.run("selftest.noop", ranges=[(0, 1)], labels=labels),  # type: ignore[arg-type]
            lambda: client.submit("selftest.noop", ranges=[(0, 1)], labels=labels),  # type: ignore[arg-type]
            lambda: ktask.Executor(1, client=client, labels=labels),  # type: ignore[arg-type]
            lambda: next(client.jobs(labels=labels)),  # type: ignore[arg-type]
        ):
            with pytest.raises((TypeError, ValueError), match="label"):
                call()


@pytest.mark.parametrize("labels", [{"": "x"}, {"a=b": "x"}, {str(i): "" for i in range(17)}])
def test_list_when_no_job_can_carry_the_labels_then_refused(daemon: Daemon, labels: dict[str, str]) -> None:
    with connected(daemon.socket) as stubs:
        assert refused(stubs.jobs.List, pb.ListRequest(labels=labels)).code == "INVALID_ARGUMENT"
