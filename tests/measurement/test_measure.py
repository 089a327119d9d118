from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from phasevae.measurement.measure import LIKELIHOOD_ROWS, column_means, log_likelihood, measure_model
from phasevae.model import Architecture, VAEEnsemble
from phasevae.sweep.settings import Member
from phasevae.theory.ppca import (
    collapsed_elbo,
    ppca_active_dims,
    ppca_elbo,
    ppca_kl,
    ppca_kl_per_dim,
    ppca_latent_variance,
    ppca_mse,
)

SIGMA2 = 0.5
MEMBER = Member(SIGMA2, 1.0, 0)


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    drawn = np.random.default_rng(0).normal(size=(6000, 5)) * np.sqrt([2.0, 1.2, 0.7, 0.3, 0.1])
    return torch.from_numpy(drawn @ basis.T + 0.5)


@pytest.fixture(scope="module")
def spectrum(rows):
    values, vectors = np.linalg.eigh(np.cov(rows.T.numpy(), bias=True))
    return values[::-1].copy(), vectors[:, ::-1].copy()


def ppca_model(rows, spectrum, n_latent: int = 3, beta: float = 1.0) -> VAEEnsemble:
    """The exact optimum for Gaussian data, as a network without hidden layers (Lucas et al. 2019)."""
    values, vectors = spectrum[0][:n_latent], spectrum[1][:, :n_latent]
    s = beta * SIGMA2
    amplitude = np.sqrt(np.maximum(values - s, 0))
    loadings = vectors * amplitude
    encoder = vectors * np.where(values > s, amplitude / values, 0)
    mean = rows.mean(0).numpy()
    head = np.concatenate([encoder, np.zeros((5, n_latent))], axis=1)
    bias = np.concatenate([-mean @ encoder, np.log(np.minimum(1, s / values))])
    flat = np.concatenate([head.ravel(), bias, loadings.T.ravel(), mean])
    return VAEEnsemble(Architecture(5, n_latent, ()), torch.from_numpy(flat)[None])


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_the_exact_optimum_measures_as_the_closed_forms(rows, spectrum, beta):
    values, _ = spectrum
    member = Member(SIGMA2, beta, 0)
    numbers = measure_model(ppca_model(rows, spectrum, 3, beta), rows, column_means(rows), member)
    assert numbers["kl"] == pytest.approx(ppca_kl(values, SIGMA2, 3, beta), rel=1e-9)
    assert numbers["kl_per_dim"] == pytest.approx(ppca_kl_per_dim(values, SIGMA2, 3, beta), abs=1e-9)
    assert numbers["latent_variance"] == pytest.approx(ppca_latent_variance(values, SIGMA2, 3, beta))
    assert numbers["mean_variance"] == pytest.approx(1 - np.minimum(1, beta * SIGMA2 / values[:3]), abs=1e-9)
    assert numbers["latent_mean"] == pytest.approx(np.zeros(3), abs=1e-9)
    assert numbers["active_dims"] == ppca_active_dims(values, SIGMA2, 3, beta)
    # What is left is the noise of 16 draws a row.
    assert numbers["mse"] == pytest.approx(ppca_mse(values, SIGMA2, 3, beta), rel=3e-3)
    assert numbers["elbo"] == pytest.approx(ppca_elbo(values, SIGMA2, 3, beta), abs=6e-3)
    assert numbers["collapsed_elbo"] == pytest.approx(collapsed_elbo(values.sum(), 5, SIGMA2), rel=1e-9)
    assert numbers["elbo_gap"] == pytest.approx(numbers["elbo"] - numbers["collapsed_elbo"], rel=1e-9)


def test_covariance_of_means_is_the_full_matrix(rows, spectrum):
    ensemble = ppca_model(rows, spectrum)
    mu, _ = ensemble.encode(rows[None])
    numbers = measure_model(ensemble, rows, column_means(rows), MEMBER)
    assert numbers["mean_covariance"] == pytest.approx(np.cov(mu[0].detach().numpy().T, bias=True), abs=1e-9)


def test_standard_error_of_the_gap_is_its_scatter(rows, spectrum):
    ensemble = ppca_model(rows, spectrum)
    parts = [measure_model(ensemble, part, column_means(rows), MEMBER) for part in rows[:3000].split(300)]
    gaps = np.array([part["elbo_gap"] for part in parts])
    told = np.mean([part["elbo_gap_standard_error"] for part in parts])
    assert gaps.std(ddof=1) == pytest.approx(told, rel=0.5)


def test_log_likelihood_is_exact_for_the_exact_posterior(rows, spectrum):
    values, vectors = spectrum
    numbers = log_likelihood(ppca_model(rows, spectrum), rows, MEMBER)
    model_values = np.where(np.arange(5) < 3, np.maximum(values, SIGMA2), SIGMA2)
    covariance = vectors @ np.diag(model_values) @ vectors.T
    density = stats.multivariate_normal(rows.mean(0).numpy(), covariance)
    fixed_rows = density.logpdf(rows.numpy())
    expected_error = fixed_rows.std() / np.sqrt(LIKELIHOOD_ROWS)
    assert numbers["log_likelihood_standard_error"] == pytest.approx(expected_error, rel=0.1)
    assert abs(numbers["log_likelihood"] - fixed_rows.mean()) < 4 * expected_error
    small = rows[:500]
    exact = density.logpdf(small.numpy()).mean()
    assert log_likelihood(ppca_model(rows, spectrum), small, MEMBER)["log_likelihood"] == pytest.approx(exact, abs=1e-9)


def test_a_worse_posterior_bounds_the_likelihood_from_below(rows, spectrum):
    ensemble = ppca_model(rows, spectrum)
    exact = log_likelihood(ensemble, rows[:500], MEMBER)["log_likelihood"]
    layer = ensemble.architecture.layers["encoder.0"]
    begin = layer.offset + layer.fan_in * layer.fan_out
    ensemble.parameters[:, begin + 3 : begin + 6] += 1.0
    numbers = measure_model(ensemble, rows[:500], column_means(rows[:500]), MEMBER)
    assert numbers["elbo"] < numbers["log_likelihood"] < exact + 1e-3


def test_held_out_rows_are_measured_apart(rows, spectrum):
    ensemble, held = ppca_model(rows, spectrum), torch.arange(0, 6000, 7)
    whole = measure_model(ensemble, rows, column_means(rows), MEMBER, held)
    mu, logvar = ensemble.encode(rows[None, held])
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(-1).mean()
    assert whole["holdout"]["n_samples"] == held.numel()
    assert whole["holdout"]["kl"] == pytest.approx(kl.item(), rel=1e-9)
    assert whole["holdout"]["mse"] != whole["mse"]


def test_measuring_again_gives_the_same_numbers(rows, spectrum):
    ensemble = ppca_model(rows, spectrum)
    first, second = (measure_model(ensemble, rows, column_means(rows), MEMBER) for _ in range(2))
    assert first["elbo"] == second["elbo"]
    assert first["log_likelihood"] == second["log_likelihood"]
