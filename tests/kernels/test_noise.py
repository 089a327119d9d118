from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from phasevae.kernels import noise

WORD = st.integers(0, 2**32 - 1)
FULL = 2**32 - 1


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL, FULL), (FULL, FULL, FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_its_authors(key, counter, expected):
    packed = int(np.array(key[0] | key[1] << 32, dtype=np.uint64).view(np.int64))
    drawn = noise.philox(torch.tensor([packed]), counter)
    assert tuple(int(word) for word in drawn) == expected


def philox_of_big_integers(key: int, counter: list[int]) -> list[int]:
    """The definition, in Python's unbounded integers."""
    k0, k1 = key & FULL, key >> 32 & FULL
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & FULL, p0 >> 32 ^ c3 ^ k1, p0 & FULL
        k0, k1 = k0 + 0x9E3779B9 & FULL, k1 + 0xBB67AE85 & FULL
    return [c0, c1, c2, c3]


@given(st.integers(-(2**63), 2**63 - 1), st.lists(WORD, min_size=4, max_size=4))
def test_philox_agrees_with_its_definition_in_unbounded_integers(key, counter):
    drawn = noise.philox(torch.tensor([key]), tuple(counter))
    assert [int(word) for word in drawn] == philox_of_big_integers(key % 2**64, counter)


@given(st.integers(1, 9), st.integers(0, 2**40), st.lists(st.integers(0, 2**31), min_size=1, max_size=5, unique=True))
def test_a_number_does_not_depend_on_what_is_drawn_beside_it(n, step, rows):
    keys = torch.tensor([3, -5, 7])
    together = noise.words(keys, torch.tensor(rows), n, step)
    alone = noise.words(keys[1:2], torch.tensor(rows[-1:]), n, step)
    assert torch.equal(together[1:2, -1:], alone)
    assert torch.equal(noise.words(keys, torch.tensor(rows), n + 3, step)[..., :n], together)


def test_words_are_laid_out_as_documented():
    key, row, step = 1234567, 42, 5 + (9 << 32)
    drawn = noise.words(torch.tensor([key]), torch.tensor([row]), 6, step)
    blocks = philox_of_big_integers(key, [0, row, 5, 9]) + philox_of_big_integers(key, [1, row, 5, 9])
    assert drawn.flatten().tolist() == blocks[:6]


@pytest.mark.parametrize("n", [1, 3, 4])
def test_normals_are_standard_normal_and_independent(n):
    drawn = noise.normals(torch.tensor([11, 12]), torch.arange(20_000), n, 3, torch.float64)
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    series = drawn.permute(0, 2, 1).reshape(2 * n, -1).numpy()
    off_diagonal = np.corrcoef(series) - np.eye(2 * n)
    assert np.abs(off_diagonal).max() < 5 / math.sqrt(20_000)


def test_float32_and_float64_are_the_same_numbers():
    arguments = torch.tensor([5]), torch.arange(5000), 4, 1
    single, double = noise.normals(*arguments), noise.normals(*arguments, torch.float64)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, atol=1e-4)
    assert (single.double() - double).norm() < 1e-6 * double.norm()


def test_the_extreme_word_gives_finite_numbers():
    unit = noise._unit(torch.tensor([0, FULL]), torch.float32)
    assert 0 < unit[0] < 1e-9
    assert unit[1] == 1


@given(st.integers(1, 300), st.integers(0, 5))
def test_permutation_holds_every_row_once(n, epoch):
    drawn = noise.permutation(noise.key("order", 3), epoch, n)
    assert torch.equal(drawn.sort().values, torch.arange(n))


def test_permutations_differ_between_epochs_and_seeds():
    drawn = {tuple(noise.permutation(noise.key("order", s), e, 50).tolist()) for s in range(3) for e in range(3)}
    assert len(drawn) == 9


def test_keys_differ_by_purpose_and_point_and_are_stable():
    points = [("noise", 0, 0.5, 1.0), ("measure", 0, 0.5, 1.0), ("noise", 1, 0.5, 1.0), ("noise", 0, 0.25, 2.0)]
    assert len({noise.point_key(*point) for point in points}) == 4
    # First 8 bytes, little endian, of `printf 'phasevae1|init|0' | sha256sum`.
    assert noise.key("init", 0) == 5183988276457011765
    with pytest.raises(ValueError, match="purpose 'other'"):
        noise.key("other", 0)
