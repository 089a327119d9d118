"""The faster of two ways of doing steps is found, and found again when the other one has become faster."""

from __future__ import annotations

import pytest

from phasevae.training import faster_way
from phasevae.training.faster_way import TRIAL, TURN, FasterWay


@pytest.fixture
def clock(monkeypatch):
    """What the ways take for the time; a test moves it."""
    now = [0.0]
    monkeypatch.setattr(faster_way.time, "perf_counter", lambda: now[0])
    return now


def seconds_of(clock: list[float], way: FasterWay, total: float, first: float, second: float) -> dict[bool, float]:
    """Do single steps that take `first` or `second` seconds for `total` seconds; the seconds of each way."""
    spent = {True: 0.0, False: 0.0}
    while sum(spent.values()) < total:
        is_first = way.is_first
        with way.timed(is_first, 1):
            clock[0] += first if is_first else second
        spent[is_first] += first if is_first else second
    return spent


@pytest.mark.parametrize(("first", "second"), [(0.01, 0.02), (0.02, 0.01), (0.5, 3.0), (3.0, 0.5)])
def test_the_faster_way_has_nearly_all_the_time(first, second, clock):
    spent = seconds_of(clock, FasterWay(), 100 * TURN * max(TRIAL, first, second), first, second)
    assert 0 < spent[first > second] / sum(spent.values()) < 2 / TURN


def test_each_way_is_tried_before_any_turn_and_its_first_call_does_not_count(clock):
    way, tried = FasterWay(), []
    for seconds in (50.0, TRIAL, 80.0, 2 * TRIAL, TRIAL):
        tried.append(way.is_first)
        with way.timed(way.is_first, 1):
            clock[0] += seconds
    assert tried == [True, True, False, False, True]


@pytest.mark.parametrize("slow", [0.03, 3.0])
def test_a_way_that_becomes_slower_is_left_at_once(slow, clock):
    way = FasterWay()
    seconds_of(clock, way, 2.0, 0.01, 0.02)
    assert way.is_first
    later = seconds_of(clock, way, 100 * slow, slow, 0.02)
    assert later[True] < 2 * TRIAL + 2 * slow + 1.5 * sum(later.values()) / TURN


def test_a_way_that_becomes_faster_takes_over_after_a_turn(clock):
    way = FasterWay()
    seconds_of(clock, way, 2.0, 0.01, 0.02)
    seconds_of(clock, way, 2 * TURN * TRIAL, 0.01, 0.005)
    assert not way.is_first
