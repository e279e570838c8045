"""Leftover processes of workers end before the deaths are reported; no other process is touched."""

from __future__ import annotations

import signal
from collections.abc import Collection
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.pool.leftovers import GRACE_S, Exit, Leftovers

HOST = 1
POLITE, DEAF, DEATHLESS = range(3)


@dataclass
class Machine:
    """Processes below a pool host, as the kernel would move and end them."""

    parents: dict[int, int] = field(default_factory=dict)
    workers: dict[int, int] = field(default_factory=dict)
    """Processes that the host has not reaped."""
    dying: set[int] = field(default_factory=set)
    """Workers that have begun to die: they keep their children, and adopt no more orphans."""
    temper: dict[int, int] = field(default_factory=dict)
    owner: dict[int, int] = field(default_factory=dict)
    """The worker that each process, dead or alive, descends from."""
    hit: set[int] = field(default_factory=set)
    last: int = HOST

    def _new(self, parent: int, temper: int) -> int:
        self.last += 1
        self.parents[self.last], self.temper[self.last] = parent, temper
        return self.last

    def start_worker(self) -> None:
        pid = self._new(HOST, DEAF)
        self.workers[pid] = self.owner[pid] = pid

    def fork(self, parent: int, temper: int) -> None:
        pid = self._new(parent, temper)
        self.owner[pid] = self.owner[parent]

    def end(self, pid: int) -> None:
        """Move its children to its worker, or to the host if the worker dies."""
        worker = self.owner[pid]
        adopts = worker in self.parents and worker not in self.dying and worker != pid
        heir = worker if adopts else HOST
        del self.parents[pid]
        self.parents = {child: heir if parent == pid else parent for child, parent in self.parents.items()}

    def reap(self) -> list[Exit]:
        dead = [pid for pid in self.workers if pid not in self.parents]
        for pid in dead:
            del self.workers[pid]
        return [Exit(pid, pid, 9) for pid in dead]

    def find(self, known: Collection[int]) -> dict[int, int]:
        found = {pid: HOST for pid, parent in self.parents.items() if parent == HOST and pid not in known}
        while more := {c: p for c, p in self.parents.items() if p in found and c not in found}:
            found |= more
        return found

    def send(self, number: signal.Signals, strays: dict[int, int], _: Collection[int]) -> None:
        self.hit |= strays.keys()
        for pid in strays:
            patience = POLITE if number is signal.SIGTERM else DEAF
            if pid in self.parents and self.temper[pid] <= patience:
                self.end(pid)

    def step(self, what: str, which: int, temper: int) -> None:
        """Perform an event, if it is possible."""
        among = {
            "fork": [pid for pid in self.parents if pid not in self.dying],
            "end": [pid for pid in self.parents if pid not in self.workers],
            "begin to die": [pid for pid in self.workers if pid not in self.dying],
            "die": [pid for pid in self.dying if pid in self.parents],
        }.get(what, [])
        if what == "worker":
            self.start_worker()
        elif among:
            pid = among[which % len(among)]
            if what == "fork":
                self.fork(pid, temper)
            elif what == "begin to die":
                self.dying.add(pid)
            else:
                self.end(pid)

    def left_by(self, worker: int) -> set[int]:
        return {pid for pid in self.parents if self.owner[pid] == worker}


KINDS = ["worker", "fork", "fork", "fork", "end", "begin to die", "die", "reap", "look"]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 99)), max_size=80)


class Host:
    """Act like a pool host."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.now_s = machine, 0.0
        self.reaped, self.reported = list[Exit](), list[int]()
        self.left = Leftovers(
            machine.workers,
            lambda _: None,
            machine.find,
            machine.send,
            lambda pids: machine.dying & set(pids),
        )

    def look(self) -> None:
        exits, self.reaped = self.reaped, []
        for one in self.left.look(exits, self.now_s):
            assert not self.machine.left_by(one.worker_id), "reported with something left"
            self.reported.append(one.worker_id)

    def kill(self, worker: int) -> None:
        self.machine.dying.add(worker)
        self.machine.end(worker)
        self.reaped += self.machine.reap()


@settings(max_examples=300, deadline=None)
@given(STEPS, st.lists(st.sampled_from([POLITE, DEAF, DEATHLESS]), min_size=80, max_size=80))
def test_leftovers_when_workers_die_in_any_order_then_each_death_waits_for_its_own_alone(
    steps: list[tuple[str, int]], tempers: list[int]
) -> None:
    machine = Machine()
    host = Host(machine)
    machine.start_worker()
    for (what, which), temper in zip(steps, tempers, strict=False):
        host.now_s += 0.01
        if what == "reap":
            host.reaped += machine.reap()
        elif what == "look":
            host.look()  # others may have died since the host reaped
        else:
            machine.step(what, which, temper)
        living = machine.workers.keys() - machine.dying
        assert not any(machine.owner[pid] in living for pid in machine.hit), "another's was hit"
    for worker in [worker for worker in machine.dying if worker in machine.parents]:
        machine.end(worker)
    for _ in range(100):
        host.now_s += GRACE_S
        host.reaped += machine.reap()
        host.look()
    assert machine.workers.keys() <= machine.parents.keys()
    if machine.workers.keys() == machine.parents.keys():  # every process that was left can be killed
        assert set(host.reported) == machine.dying


def test_leftovers_when_one_cannot_be_killed_then_later_deaths_do_not_wait_for_it() -> None:
    machine = Machine()
    host = Host(machine)
    machine.start_worker()
    machine.start_worker()
    first, second = machine.workers
    machine.fork(first, DEATHLESS)
    machine.fork(second, DEAF)
    for worker in (first, second):
        host.kill(worker)
        for _ in range(5):
            host.now_s += GRACE_S
            host.look()
    assert host.reported == [second]
    assert host.left.patience_s(host.now_s + 60.0), "it is still looked at, now and then"


def test_leftovers_when_they_multiply_then_killed_before_the_grace_is_over() -> None:
    machine = Machine()
    host = Host(machine)
    machine.start_worker()
    (worker,) = machine.workers
    machine.fork(worker, DEAF)
    host.kill(worker)
    host.look()
    for pid in list(machine.parents) * 20:
        machine.fork(pid, DEAF)
    host.now_s = GRACE_S / 10
    host.look()
    assert not machine.parents
    host.look()
    host.look()
    assert host.reported == [worker]
