"""What workers leave behind is ended before their death counts, and nobody else's is touched."""

from __future__ import annotations

import signal
from collections.abc import Collection
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.pool.leftovers import GRACE_S, Leftovers

HOST = 1
POLITE, DEAF, DEATHLESS = range(3)


@dataclass
class Machine:
    """Processes below a pool host, as the kernel would move and end them."""

    parents: dict[int, int] = field(default_factory=dict)
    workers: dict[int, int] = field(default_factory=dict)
    temper: dict[int, int] = field(default_factory=dict)
    owner: dict[int, int] = field(default_factory=dict)
    """Of each process that ever was: the worker that it descends from."""
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
        """Its children go to its worker, or to the host where that is dead."""
        heir = self.owner[pid] if self.owner[pid] in self.parents and self.owner[pid] != pid else HOST
        del self.parents[pid]
        self.parents = {child: heir if parent == pid else parent for child, parent in self.parents.items()}

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

    def step(self, what: str, which: int, temper: int) -> list[tuple[int, int]]:
        """Something happens, if it can; workers that the host has reaped."""
        among = list(self.workers if what == "kill worker" else self.parents)
        if what == "end":
            among = [pid for pid in self.parents if pid not in self.workers]
        if what == "worker":
            self.start_worker()
        elif among and what == "fork":
            self.fork(among[which % len(among)], temper)
        elif among and what == "end":
            self.end(among[which % len(among)])
        elif among and what == "kill worker":
            worker = among[which % len(among)]
            del self.workers[worker]
            self.end(worker)
            return [(worker, 9)]
        return []

    def left_by(self, worker: int) -> set[int]:
        return {pid for pid in self.parents if self.owner[pid] == worker}


STEPS = st.lists(
    st.tuples(st.sampled_from(["worker", "fork", "fork", "end", "kill worker", "look"]), st.integers(0, 99)),
    max_size=60,
)


@given(STEPS, st.lists(st.sampled_from([POLITE, DEAF, DEATHLESS]), min_size=60, max_size=60))
def test_leftovers_when_workers_die_in_any_order_then_each_death_waits_for_its_own_alone(
    steps: list[tuple[str, int]], tempers: list[int]
) -> None:
    machine, now_s, reported = Machine(), 0.0, set[int]()
    left = Leftovers(machine.workers, lambda _: None, machine.find, machine.send)
    machine.start_worker()

    def look(exits: list[tuple[int, int]]) -> None:
        for worker, _ in left.look(exits, now_s):
            assert not machine.left_by(worker), "reported with something left"
            reported.add(worker)

    for (what, which), temper in zip(steps, tempers, strict=False):
        now_s += 0.01
        exits = machine.step(what, which, temper)
        if exits or left:
            look(exits)
        assert not any(machine.owner[pid] in machine.workers for pid in machine.hit), "another's was hit"
    for _ in range(100):
        now_s += GRACE_S
        look([])
    dead = {owner for owner in machine.owner.values() if owner not in machine.workers}
    stuck = {machine.owner[pid] for pid in machine.parents}
    assert dead - reported <= stuck
    for worker in machine.workers:
        assert worker in machine.parents


def test_leftovers_when_one_cannot_be_killed_then_later_deaths_do_not_wait_for_it() -> None:
    machine, now_s = Machine(), 0.0
    left = Leftovers(machine.workers, lambda _: None, machine.find, machine.send)
    machine.start_worker()
    machine.start_worker()
    first, second = machine.workers
    machine.fork(first, DEATHLESS)
    machine.fork(second, DEAF)
    reported = list[int]()
    for worker in (first, second):
        del machine.workers[worker]
        machine.end(worker)
        exits = [(worker, 9)]
        for _ in range(5):
            now_s += GRACE_S
            reported += [one for one, _ in left.look(exits, now_s)]
            exits = []
    assert reported == [second]
    assert left.patience_s(now_s + 60.0), "it is still looked at, now and then"


def test_leftovers_when_they_multiply_then_killed_before_the_grace_is_over() -> None:
    machine = Machine()
    left = Leftovers(machine.workers, lambda _: None, machine.find, machine.send)
    machine.start_worker()
    (worker,) = machine.workers
    machine.fork(worker, DEAF)
    del machine.workers[worker]
    machine.end(worker)
    exits, reported = [(worker, 9)], list[tuple[int, int]]()
    for i in range(4):
        reported += left.look(exits, i * GRACE_S / 10)
        exits = []
        for pid in list(machine.parents):
            for _ in range(20):
                machine.fork(pid, DEAF)
        if i == 0:
            assert machine.parents
        if i == 1:
            assert not machine.parents
    assert reported == [(worker, 9)]
