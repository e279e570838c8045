"""Leases are shared out whole, and are cut where both workers have something left to do.

Guards: I1
"""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.planner.leases import LOOKS, QUANTA_AHEAD, TAKEN_S, Grain, Rest, choose, cut_of, largest, share
from ktaskd.planner.threads import ceil_div

rests = st.builds(
    lambda claim, left, nid, rate: Rest(claim, claim + left, nid, rate),
    st.integers(0, 2**40),
    st.integers(-5, 10_000),
    st.sampled_from([-1, 0, 1, 2]),
    st.sampled_from([0.0, 1.0, 1e4, 1e6, 1e18]),
)
grains = st.builds(Grain, st.integers(1, 300), st.sampled_from([0, 1, 4, 64]), st.integers(1, 200))


@settings(deadline=None)
@given(rests, grains)
def test_cut_when_it_is_made_then_both_sides_are_worth_it_and_it_is_beyond_the_claim(
    rest: Rest, grain: Grain
) -> None:
    cut = cut_of(rest, grain)
    if cut is None:
        return
    assert rest.claim < cut < rest.end
    assert cut % max(grain.align, 1) == 0
    assert cut >= rest.claim + QUANTA_AHEAD * grain.quantum
    for side in (cut - rest.claim, rest.end - cut):
        assert side >= grain.min_chunk
        assert side >= int(rest.rate * TAKEN_S)


@settings(deadline=None)
@given(rests, grains)
def test_cut_when_there_is_room_for_one_then_it_is_made(rest: Rest, grain: Grain) -> None:
    """A worker would stay idle beside a long lease otherwise."""
    least = max(grain.min_chunk, int(rest.rate * TAKEN_S))
    ahead = max(QUANTA_AHEAD * grain.quantum, least)
    needed = max(ahead + least, 2 * least) + max(grain.align, 1)
    assert cut_of(rest, grain) is not None or rest.left < needed


@settings(deadline=None)
@given(rests, grains)
def test_cut_when_the_rest_is_long_then_it_is_halved(rest: Rest, grain: Grain) -> None:
    cut = cut_of(rest, grain)
    least = max(grain.min_chunk, int(rest.rate * TAKEN_S), QUANTA_AHEAD * grain.quantum)
    if cut is not None and rest.left >= 2 * least:
        assert 0 <= cut - (rest.claim + rest.left // 2) < max(grain.align, 1)


def test_cut_when_the_worker_is_slow_then_a_smaller_rest_is_taken_than_from_a_fast_one() -> None:
    grain = Grain(min_chunk=1, align=1, quantum=1)
    fast, slow = Rest(0, 1000, 0, rate=1e6), Rest(0, 1000, 0, rate=1e3)
    assert cut_of(fast, grain) is None
    assert cut_of(slow, grain) == 500


@given(st.integers(0, 10**9), st.integers(1, 256), st.integers(1, 10**6))
def test_share_when_workers_come_one_after_the_other_then_all_is_given_out(
    total: int, workers: int, min_chunk: int
) -> None:
    left, sizes = total, list[int]()
    for still in range(workers, 0, -1):
        size = share(left, still, min_chunk)
        assert size >= min_chunk
        sizes.append(min(size, left))
        left -= sizes[-1]
    assert left == 0
    assert all(size <= max(ceil_div(total, workers), min_chunk) for size in sizes)


@given(st.integers(1, 10**9), st.integers(-3, 0))
def test_share_when_more_workers_came_than_were_expected_then_all_that_is_left(
    left: int, workers: int
) -> None:
    assert share(left, workers, 1) == left


@given(st.lists(rests, max_size=8), st.integers(-1, 2))
def test_largest_when_ordered_then_the_own_node_first_and_there_the_largest(
    found: list[Rest], nid: int
) -> None:
    order = largest(enumerate(found), nid)
    assert sorted(order) == list(range(len(found)))
    own = [found[i].nid in (nid, -1) for i in order]
    assert own == sorted(own, reverse=True)
    for group in (True, False):
        sizes = [found[i].left for i, mine in zip(order, own, strict=True) if mine is group]
        assert sizes == sorted(sizes, reverse=True)


@settings(deadline=None)
@given(st.lists(rests, max_size=40), grains, st.integers(-1, 2))
def test_choice_when_made_then_all_that_can_be_divided_and_the_best_of_some_first(
    found: list[Rest], grain: Grain, nid: int
) -> None:
    chosen = list(choose(enumerate(found), grain, nid))
    assert dict(chosen) == {
        i: cut for i, rest in enumerate(found) if (cut := cut_of(rest, grain)) is not None
    }
    assert len(chosen) == len(dict(chosen))
    if chosen:
        first = chosen[0][0]
        batch = [i for i in dict(chosen) if i // LOOKS == first // LOOKS]
        assert first == largest([(i, found[i]) for i in batch], nid)[0]
        assert all(i // LOOKS >= first // LOOKS for i in dict(chosen))


def test_choice_when_the_first_is_enough_then_not_all_leases_are_looked_at() -> None:
    looked: list[int] = []

    def rests_of() -> Iterator[tuple[int, Rest]]:
        for i in range(256):
            looked.append(i)
            yield i, Rest(0, 1000 + i, 0)

    assert next(choose(rests_of(), Grain(1, 1, 1), 0)) == (LOOKS - 1, (1000 + LOOKS - 1) // 2)
    assert len(looked) == LOOKS
