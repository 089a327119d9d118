from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from phasevae.architecture import Architecture
from phasevae.kernels import noise
from phasevae.kernels.elbo import gaussian_nll, reparam_kl
from phasevae.measurement import measure
from phasevae.measurement.measure import LIKELIHOOD_DRAWS, LIKELIHOOD_ROWS, log_likelihood, measure_model
from phasevae.model import VAEEnsemble, initialise
from phasevae.sweeps.settings import Member
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
    return torch.from_numpy((drawn - drawn.mean(0)) @ basis.T)


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
    head = np.concatenate([encoder, np.zeros((5, n_latent))], axis=1)
    bias = np.concatenate([np.zeros(n_latent), np.log(np.minimum(1, s / values))])
    flat = np.concatenate([head.ravel(), bias, loadings.T.ravel(), np.zeros(5)])
    architecture = Architecture(5, n_latent, ())
    parameters = torch.zeros(1, architecture.row_length, dtype=torch.float64)
    parameters[0, : architecture.n_parameters] = torch.from_numpy(flat)
    return VAEEnsemble(architecture, parameters)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_the_exact_optimum_measures_as_the_closed_forms(rows, spectrum, beta):
    values, _ = spectrum
    member = Member(SIGMA2, beta, 0)
    numbers = measure_model(ppca_model(rows, spectrum, 3, beta), rows, member)
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
    numbers = measure_model(ensemble, rows, MEMBER)
    assert numbers["mean_covariance"] == pytest.approx(np.cov(mu[0].detach().numpy().T, bias=True), abs=1e-9)


def test_standard_error_of_the_gap_is_its_scatter(rows, spectrum):
    ensemble = ppca_model(rows, spectrum)
    parts = [measure_model(ensemble, part, MEMBER) for part in rows[:3000].split(300)]
    gaps = np.array([part["elbo_gap"] for part in parts])
    estimated = np.mean([part["elbo_gap_standard_error"] for part in parts])
    assert gaps.std(ddof=1) == pytest.approx(estimated, rel=0.5)


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
    numbers = measure_model(ensemble, rows[:500], MEMBER)
    assert numbers["elbo"] < numbers["log_likelihood"] < exact + 1e-3


def log_likelihood_of_single_draws(model: VAEEnsemble, x: torch.Tensor, member: Member) -> torch.Tensor:
    """The log likelihood of each of at most LIKELIHOOD_ROWS rows, less its constant, with one pass per draw."""
    key = torch.tensor([noise.point_key("likelihood", member.seed, member.sigma2, member.beta)])
    rows = x[None, noise.permutation(noise.key("likelihood", "rows"), 0, len(x))]
    mu, logvar = model.encode(rows)
    weights = []
    for draw in range(LIKELIHOOD_DRAWS):
        z, _ = reparam_kl(mu, logvar, key, draw)
        nll = gaussian_nll(rows, model.decode(z[:, 0])[:, None], torch.tensor([member.sigma2], dtype=x.dtype))
        prior, posterior = -0.5 * z[0, 0].square(), -0.5 * ((z[0, 0] - mu[0]).square() / logvar[0].exp() + logvar[0])
        weights.append(-nll[0, 0].double() + (prior - posterior).double().sum(-1))
    return torch.logsumexp(torch.stack(weights), 0) - np.log(LIKELIHOOD_DRAWS)


def squared_errors_of_single_pairs(model: VAEEnsemble, x: torch.Tensor, member: Member) -> torch.Tensor:
    """|x - f(z)|^2 of each row of x, at most a block, averaged over antithetic pairs, with one pass per pair."""
    key = torch.tensor([noise.point_key("measure", member.seed, member.sigma2, member.beta)])
    mu, logvar = model.encode(x[None])
    errors = []
    for pair in range(measure.MOST_PAIRS):
        z, _ = reparam_kl(mu, logvar, key, pair, antithetic=True)
        errors += [(x - model.decode(z[:, sign])[0]).double().square().sum(-1) for sign in (0, 1)]
    return torch.stack(errors).mean(0)


@pytest.mark.parametrize("draws_of_a_pass", [1, 100, 300])
def test_draws_in_batches_give_the_numbers_of_single_draws(rows, draws_of_a_pass, monkeypatch):
    """In float32, as trained models are: the batches have the same noise, row by row and draw by draw."""
    monkeypatch.setattr(measure, "_PASS_NUMBERS", draws_of_a_pass * 200 * 33)
    model, x = initialise(Architecture(5, 3, (33,)), [4]), rows[:200].float()
    per_row = log_likelihood_of_single_draws(model, x, MEMBER)
    numbers = measure_model(model, x, MEMBER)
    constant = float(collapsed_elbo(0.0, 5, SIGMA2))
    assert numbers["log_likelihood"] == pytest.approx(float(per_row.mean()) + constant, rel=1e-6)
    assert numbers["log_likelihood_standard_error"] == pytest.approx(float(per_row.std()) / 200**0.5, rel=1e-5)
    assert numbers["mse"] == pytest.approx(float(squared_errors_of_single_pairs(model, x, MEMBER).mean()), rel=1e-6)


def test_a_pass_is_bounded_in_memory(monkeypatch):
    """No layer of a pass has more numbers than allowed, except where one draw of all rows already has more."""
    model = initialise(Architecture(64, 2, (256, 128)), [0])
    for n, allowed in ((1797, measure._PASS_NUMBERS), (300, measure._PASS_NUMBERS), (20, 1)):
        monkeypatch.setattr(measure, "_PASS_NUMBERS", allowed)
        passes = list(measure._passes(model, n, 256))
        assert torch.equal(torch.cat(passes), torch.arange(256))
        assert max(len(steps) for steps in passes) == max(1, allowed // (256 * n))


def test_held_out_rows_are_measured_apart(rows, spectrum):
    ensemble, held = ppca_model(rows, spectrum), torch.arange(0, 6000, 7)
    whole = measure_model(ensemble, rows, MEMBER, held)
    mu, logvar = ensemble.encode(rows[None, held])
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(-1).mean()
    assert whole["holdout"]["n_samples"] == held.numel()
    assert whole["holdout"]["kl"] == pytest.approx(kl.item(), rel=1e-9)
    assert whole["holdout"]["mse"] != whole["mse"]


def test_measuring_again_gives_the_same_numbers(rows, spectrum):
    ensemble = ppca_model(rows, spectrum)
    first, second = (measure_model(ensemble, rows, MEMBER) for _ in range(2))
    assert first["elbo"] == second["elbo"]
    assert first["log_likelihood"] == second["log_likelihood"]


def test_the_log_likelihood_of_blocks_of_rows_agrees_with_that_of_all_rows(rows, spectrum, monkeypatch):
    model, some = ppca_model(rows, spectrum), rows[:900]
    whole = log_likelihood(model, some, MEMBER)
    monkeypatch.setattr(measure, "_LIKELIHOOD_NUMBERS", 5 * 200)
    blocks = log_likelihood(model, some, MEMBER)
    # The rows are the same, the draws are not: a posterior that is exact leaves no noise.
    assert blocks == pytest.approx(whole, rel=1e-9)
