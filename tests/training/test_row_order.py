from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae.kernels import noise
from phasevae.kernels.elbo import reparam_kl
from phasevae.training.row_order import LEAST_ROWS, balanced_groups, principal_axes, shuffled_groups
from phasevae.training.variance_reduction import NOISE_ROWS, ROWS_OF_A_LATENT, moment_matched_noise

STREAMS = torch.tensor([noise.key("order", seed) for seed in (0, 1)])


def groups(x: torch.Tensor, n_axes: int) -> torch.Tensor:
    rows = torch.arange(len(x))
    return balanced_groups(x.__getitem__, rows, principal_axes(x.__getitem__, rows, n_axes))


def order(grouped: torch.Tensor, epoch: int = 0) -> torch.Tensor:
    return shuffled_groups(grouped, int((grouped >= 0).sum()), STREAMS, torch.tensor(epoch))


def correlated_rows(n: int = 8000, dimension: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimension, generator=generator) @ torch.randn(dimension, dimension, generator=generator)


def deviation(x: torch.Tensor, rows: torch.Tensor, window: int) -> tuple[float, float]:
    """Root mean squares of the deviations of means and second moments of windows, relative to the standard deviations
    of the features."""
    whole = x.double() - x.double().mean(0)
    whole = whole @ torch.linalg.inv(torch.linalg.cholesky(whole.T @ whole / len(x))).T
    windows = whole[rows[: len(rows) // window * window]].unflatten(0, (-1, window))
    second = windows.mT @ windows / window - torch.eye(x.shape[1], dtype=torch.float64)
    return float(windows.mean(1).square().mean().sqrt()), float(second.square().mean().sqrt())


@given(st.integers(1, 400), st.integers(1, 5), st.integers(1, 20), st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_group_and_in_each_epoch_once(n, dimension, n_coordinates, scale):
    grouped = groups(scale * correlated_rows(n, dimension), n_coordinates)
    present = grouped[grouped >= 0]
    assert present.sort().values.tolist() == list(range(n))
    assert (grouped >= 0).sum(1).min() >= min(n, LEAST_ROWS) // 2
    for epoch in (0, 3):
        assert all(row.sort().values.tolist() == list(range(n)) for row in order(grouped, epoch))


def test_windows_have_the_moments_of_all_rows():
    x = correlated_rows(dimension=4)
    grouped = groups(x, 4)
    chance = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    for row in (*order(grouped), *order(grouped, 1)):
        for window, factor in ((128, 1.5), (500, 3), (1000, 4)):
            for balanced, random in zip(deviation(x, row, window), deviation(x, chance, window), strict=True):
                assert balanced < random / factor


def test_leading_directions_are_balanced_where_there_are_more():
    x = correlated_rows(dimension=40)
    x[:, :2] *= 30
    row = order(groups(x, 2))[0]
    chance = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    some = x[:, :2]
    assert max(deviation(some, row, 1000)) < min(deviation(some, chance, 1000)) / 4


def test_epochs_and_seeds_differ():
    grouped = groups(correlated_rows(), 4)
    first, second = order(grouped), order(grouped, 1)
    for some, other in ((first[0], first[1]), (first[0], second[0])):
        assert (some == other).double().mean() < 0.01
    assert torch.equal(order(grouped), first)


def test_groups_depend_neither_on_threads_nor_on_the_scale_of_the_data():
    x = correlated_rows(20_000)
    threads = torch.get_num_threads()
    try:
        divided = []
        for count in (1, 3):
            torch.set_num_threads(count)
            divided.append(groups(x, 6))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*divided)
    assert torch.equal(divided[0], groups(4 * x, 6))


def test_global_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    groups(correlated_rows(100), 4)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize(("n_latent", "tolerance"), [(1, 1e-12), (2, 1e-12), (4, 1e-4)])
def test_moment_matched_noise_has_unit_covariance(antithetic, n_latent, tolerance):
    generator = torch.Generator().manual_seed(0)
    mu, logvar = (torch.randn(50, 64, n_latent, generator=generator, dtype=torch.float64) for _ in range(2))
    z, _ = reparam_kl(mu, logvar, torch.arange(50), 0, antithetic)
    matched, before = (
        (draws - mu[:, None]) * (-0.5 * logvar[:, None]).exp() for draws in (moment_matched_noise(z, mu, logvar), z)
    )
    identity = torch.eye(n_latent, dtype=torch.float64)
    assert (matched.mT @ matched / 64 - identity).abs().max() < tolerance
    assert (before.mT @ before / 64 - identity).abs().max() > 0.1
    assert (matched - before).abs().mean() < 0.3
    if antithetic:
        assert torch.allclose(matched[:, 0], -matched[:, 1])


def test_moment_matched_noise_has_the_gradient_of_its_sample():
    generator = torch.Generator().manual_seed(0)
    mu, logvar = (torch.randn(2, 64, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    weights = torch.randn(2, 2, 64, 3, generator=generator, dtype=torch.float64)
    z, _ = reparam_kl(mu, logvar, torch.arange(2), 5, True)
    matched = moment_matched_noise(z, mu, logvar)
    by_mu, by_logvar = torch.autograd.grad((matched * weights).sum(), (mu, logvar))
    spread = (matched - mu[:, None]).detach()
    assert torch.allclose(by_mu, weights.sum(1))
    assert torch.allclose(by_logvar, (weights * 0.5 * spread).sum(1))


@pytest.mark.parametrize(("rows", "n_latent"), [(NOISE_ROWS - 1, 1), (ROWS_OF_A_LATENT * 5 - 1, 5)])
def test_noise_of_a_small_batch_is_left_as_it_is(rows, n_latent):
    mu = torch.zeros(1, rows, n_latent)
    z, _ = reparam_kl(mu, mu, torch.zeros(1, dtype=torch.int64), 0, True)
    assert moment_matched_noise(z, mu, mu) is z
