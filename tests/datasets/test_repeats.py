from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae.datasets import repeats
from phasevae.datasets.repeats import RowCounter


def counted(*blocks: np.ndarray) -> float | None:
    counter = RowCounter(blocks[0].shape[1])
    for block in blocks:
        counter.add(np.asarray(block, dtype=np.float64))
    return counter.effective_samples(sum(map(len, blocks)))


@settings(max_examples=30, deadline=None)
@given(copies=st.lists(st.integers(1, 9), min_size=50, max_size=300), seed=st.integers(0, 99), parts=st.integers(1, 5))
def test_as_counted_by_hand(copies, seed, parts):
    rng = np.random.default_rng(seed)
    x = rng.permutation(np.repeat(rng.normal(size=(len(copies), 5)), copies, axis=0))
    expected = len(x) ** 2 / sum(m**2 for m in Counter(map(bytes, x)).values())
    actual = counted(*np.array_split(x, parts))
    assert actual is None if max(copies) == 1 else actual == pytest.approx(expected)


def test_more_rows_than_are_kept(monkeypatch):
    monkeypatch.setattr(repeats, "MOST_HASHES", 1000)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 4))
    assert counted(*np.array_split(x, 50)) is None
    twice = rng.permutation(np.vstack([x, x]))
    assert counted(*np.array_split(twice, 50)) == pytest.approx(20_000)
    some = rng.permutation(np.vstack([x, *[x[:2000]] * 5]))
    expected = len(some) ** 2 / (18_000 + 2000 * 36)
    assert counted(*np.array_split(some, 50)) == pytest.approx(expected, rel=0.15)


def test_zero_has_one_sign():
    x = np.random.default_rng(0).normal(size=(200, 4))
    x[:, 0] = 0
    assert counted(x, x * [-1, 1, 1, 1]) == pytest.approx(200)


FEW_VALUED = {
    "two binary features": lambda rng: rng.integers(0, 2, (5000, 2)),
    "one categorical feature": lambda rng: rng.integers(0, 30, (5000, 1)),
    "clusters": lambda rng: np.eye(10)[rng.integers(0, 10, 5000)],
    "rare clusters": lambda rng: np.eye(2)[(rng.random(5000) < 0.1).astype(int)],
    "survey": lambda rng: rng.integers(1, 6, (5000, 4)),
    "rare events": lambda rng: rng.random((5000, 12)) < 0.02,
    "ten binary features": lambda rng: rng.random((5000, 10)) < 0.3,
}


@pytest.mark.parametrize("name", FEW_VALUED)
def test_few_values_repeat_by_nature(name):
    assert counted(FEW_VALUED[name](np.random.default_rng(0))) is None


COPIED = {
    "pixels": lambda rng: rng.integers(0, 17, (500, 64)),
    "binary pixels": lambda rng: rng.random((500, 100)) < 0.3,
    "counts": lambda rng: rng.poisson(0.3, (500, 200)),
    "two numbers": lambda rng: rng.normal(size=(500, 2)),
}


@pytest.mark.parametrize("name", COPIED)
def test_copies_of_few_valued_rows_that_are_no_chance(name):
    x = COPIED[name](np.random.default_rng(0))
    assert counted(x) is None
    assert counted(np.tile(x, (3, 1))) == pytest.approx(500)
