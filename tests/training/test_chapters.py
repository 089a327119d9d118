from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae.errors import InputError
from phasevae.kernels import noise
from phasevae.training import chapters
from phasevae.training.chapters import Chapters, held_out_rows
from phasevae.training.row_order import RowOrder


@pytest.fixture(autouse=True)
def small_chapters(monkeypatch):
    """Chapters of about 16 rows from 64 rows on."""
    monkeypatch.setattr(chapters, "MOST_ROWS", 64)
    monkeypatch.setattr(chapters, "CHAPTER_ROWS", 16)


def all_rows(parts: Chapters) -> list[list[int]]:
    return [parts.rows(chapter).tolist() for chapter in range(len(parts))]


@given(n=st.integers(2, 500), holdout=st.sampled_from([0.0, 0.1, 0.5]))
def test_every_row_is_held_out_or_in_one_chapter(n, holdout):
    held = held_out_rows(n, holdout if n > 10 else 0.0)
    parts = Chapters(n, held)
    rows = all_rows(parts)
    assert sorted(sum(rows, held.tolist())) == list(range(n))
    assert [len(part) for part in rows] == parts.sizes.tolist()
    assert parts.n_rows == n - len(held)
    assert all(part == sorted(part) for part in rows)
    assert len(parts) == (1 if n <= 64 else -(-n // 16))


@given(n=st.integers(11, 500), holdout=st.floats(0.1, 0.9))
def test_the_held_out_rows_are_as_many_as_asked_for_and_spread_over_the_data(n, holdout):
    held = held_out_rows(n, holdout)
    assert len(held) == round(holdout * n)
    assert torch.equal(held, held.unique())
    for start in range(0, n - 64, 64):
        count = ((held >= start) & (held < start + 64)).sum()
        assert abs(count - holdout * 64) <= 1.5


def test_a_holdout_without_rows_is_refused():
    with pytest.raises(InputError, match=r"holdout: 0\.001 of 100 samples is 0 rows"):
        held_out_rows(100, 0.001)


def test_a_chapter_has_one_of_any_c_consecutive_rows_and_not_always_the_same():
    parts = Chapters(1000)
    count = len(parts)
    rows = parts.rows(3)
    assert torch.equal(rows // count, torch.arange(len(rows)))
    assert len((rows % count).unique()) > 10


@given(n=st.integers(60, 150), batch=st.integers(20, 90), balanced=st.booleans())
@settings(deadline=None, max_examples=10)
def test_every_epoch_shows_every_row_once_whatever_the_chapters(n, batch, balanced):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    take = x.__getitem__ if balanced else None

    def order() -> RowOrder:
        return RowOrder([0, 5], Chapters(n), batch, "cpu", take, 2)

    steps, several = -(-2 * n // batch), order()
    shown = torch.cat([several.rows(step) for step in range(steps)], dim=1)
    for epoch in range(2):
        for seed in (0, 1):
            assert shown[seed, epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))
    assert torch.equal(order().rows(steps - 1), shown[:, -batch:])
    assert torch.equal(order().rows(0, steps), shown)
    assert n <= 64 or not torch.equal(shown[0], shown[1])


def test_an_epoch_goes_through_the_chapters_one_by_one():
    parts = Chapters(320)
    shown = RowOrder([0], parts, 320).rows(0)[0]
    chapter_of = torch.empty(320, dtype=torch.int64)
    for chapter in range(len(parts)):
        chapter_of[parts.rows(chapter)] = chapter
    runs = chapter_of[shown].unique_consecutive()
    assert sorted(runs.tolist()) == list(range(20))
    assert runs.tolist() != list(range(20))


@pytest.mark.parametrize("n", [5, 100, 1000])
def test_a_subset_has_different_numbers_and_is_spread_if_there_are_many(monkeypatch, n):
    monkeypatch.setattr(noise, "LARGEST_PERMUTATION", 100)
    stream = noise.key("likelihood", "rows")
    chosen = noise.subset(stream, 7, n)
    assert len(chosen.unique()) == min(n, 7)
    if n == 1000:
        assert torch.equal(chosen * 7 // 1000, torch.arange(7))
    else:
        assert torch.equal(chosen, noise.permutation(stream, 0, n)[:7])
