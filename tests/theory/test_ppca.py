from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phasevae.errors import InputError
from phasevae.theory.linear_vae import linear_vae_elbo
from phasevae.theory.ppca import (
    collapsed_elbo,
    critical_variance,
    gaussian_log_likelihood,
    kl_slope_below,
    ppca_active_dims,
    ppca_elbo,
    ppca_exact_above,
    ppca_kl,
    ppca_kl_curvature,
    ppca_kl_slope,
    ppca_latent_variance,
    ppca_mse,
)

DEFAULT = np.exp(-0.1 * np.arange(8))


def spectra(max_size=6):
    values = arrays(float, st.integers(1, max_size), elements=st.floats(0.05, 20.0))
    return values.map(lambda lam: np.sort(lam)[::-1])


variances = st.floats(0.02, 30.0)
latents = st.integers(1, 7)


def linear_vae_objective(flat, covariance, sigma2, beta, n):
    """-ELBO of a linear VAE with decoder W z, encoder V x and diagonal latent variances, from its definition."""
    d = covariance.shape[0]
    w, v, log_variance = flat[: d * n].reshape(d, n), flat[d * n : 2 * d * n].reshape(n, d), flat[2 * d * n :]
    residual = np.eye(d) - w @ v
    mse = np.trace(residual @ covariance @ residual.T) + np.sum((w**2) @ np.exp(log_variance))
    kl = 0.5 * (np.trace(v @ covariance @ v.T) + np.sum(np.exp(log_variance) - 1 - log_variance))
    return 0.5 * d * np.log(2 * np.pi * sigma2) + mse / (2 * sigma2) + beta * kl


@pytest.mark.parametrize(("sigma2", "n", "beta"), [(0.6, 2, 1.0), (1.3, 3, 1.0), (0.5, 2, 2.5), (3.0, 2, 1.0)])
def test_elbo_is_the_numeric_optimum_of_linear_vaes(sigma2, n, beta):
    from scipy.optimize import minimize

    rng = np.random.default_rng(7)
    eigenvalues = np.array([2.5, 1.6, 0.7])
    basis = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    covariance = basis @ np.diag(eigenvalues) @ basis.T
    best = min(
        minimize(linear_vae_objective, rng.normal(size=7 * n) * 0.5, args=(covariance, sigma2, beta, n), tol=1e-10).fun
        for _ in range(4)
    )
    assert ppca_elbo(eigenvalues, sigma2, n, beta) == pytest.approx(-best, abs=2e-6)


@pytest.mark.parametrize("sigma2", [0.3, 0.8, 2.2])
def test_elbo_is_the_log_likelihood_of_ppca(sigma2):
    """Expected log density of data under N(0, W W' + sigma2), W from Tipping & Bishop, by scipy."""
    from scipy.stats import multivariate_normal

    eigenvalues, n = np.array([2.0, 1.0, 0.5, 0.25]), 3
    model = np.diag(np.concatenate([np.maximum(eigenvalues[:n], sigma2), [sigma2]]))
    # Points +-sqrt(D lambda_i) e_i have exactly this covariance, and the log density is quadratic.
    points = np.diag(np.sqrt(4 * eigenvalues))
    expected = multivariate_normal(np.zeros(4), model).logpdf(np.vstack([points, -points])).mean()
    assert ppca_elbo(eigenvalues, sigma2, n) == pytest.approx(expected, rel=1e-12)


def test_agrees_with_sklearn_pca():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 5)) * np.sqrt([3.0, 2.0, 0.6, 0.5, 0.4])
    x -= x.mean(0)
    pca = PCA(n_components=2).fit(x)
    unbiased = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    elbo = ppca_elbo(unbiased, pca.noise_variance_, 2)
    # sklearn's model has this covariance (1/(N-1)); its score averages over the 1/N sample covariance.
    n = len(x)
    model_energy = pca.score(x) + 0.5 * np.trace(np.linalg.solve(pca.get_covariance(), x.T @ x / n))
    assert elbo + 0.5 * 5 == pytest.approx(model_energy, rel=1e-9)


def test_numbers_of_the_default_spectrum():
    assert critical_variance(DEFAULT) == 1.0
    assert kl_slope_below(DEFAULT) == -0.5
    assert ppca_exact_above(DEFAULT, 4) == pytest.approx(0.663, abs=5e-4)
    assert ppca_exact_above(DEFAULT, 8) == 0.0
    for sigma2, gap in ((0.93, 0.00135), (0.99, 2.5e-5)):
        collapsed = collapsed_elbo(DEFAULT.sum(), 8, sigma2)
        assert ppca_elbo(DEFAULT, sigma2, 4) - collapsed == pytest.approx(gap, rel=0.02)
    assert gaussian_log_likelihood(DEFAULT) == pytest.approx(-0.5 * (8 * np.log(2 * np.pi * np.e) - 2.8))


@given(spectra(), variances, latents)
def test_thermodynamic_identity(lam, sigma2, n):
    """dKL/dsigma2 = -(1 / (2 sigma2)) dMSE/dsigma2, and both slopes are the closed form."""
    h = 1e-5 * sigma2
    if np.any(np.abs(lam / sigma2 - 1) < 1e-4):
        return
    kl = np.diff(ppca_kl(lam, [sigma2 - h, sigma2 + h], n))[0] / (2 * h)
    mse = np.diff(ppca_mse(lam, [sigma2 - h, sigma2 + h], n))[0] / (2 * h)
    assert kl == pytest.approx(-mse / (2 * sigma2), rel=1e-5, abs=1e-6 / sigma2)
    assert kl == pytest.approx(ppca_kl_slope(lam, sigma2, n), rel=1e-5, abs=1e-6 / sigma2)
    slope = np.diff(ppca_kl_slope(lam, [sigma2 - h, sigma2 + h], n))[0] / (2 * h)
    assert slope == pytest.approx(ppca_kl_curvature(lam, sigma2, n), rel=1e-5)


@given(spectra(), variances, latents, st.floats(0.1, 10.0))
def test_beta_enters_through_beta_sigma2(lam, sigma2, n, beta):
    """L_beta(s) = beta L_1(beta s) + (beta D / 2) ln(2 pi beta s) - (D / 2) ln(2 pi s)."""
    d = lam.size
    constant = 0.5 * beta * d * np.log(2 * np.pi * beta * sigma2) - 0.5 * d * np.log(2 * np.pi * sigma2)
    expected = beta * ppca_elbo(lam, beta * sigma2, n) + constant
    assert ppca_elbo(lam, sigma2, n, beta) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert ppca_kl(lam, sigma2, n, beta) == pytest.approx(ppca_kl(lam, beta * sigma2, n), abs=1e-12)
    h = 1e-5
    numeric = np.diff(ppca_kl(lam, [sigma2 * (1 - h), sigma2 * (1 + h)], n, beta))[0] / (2 * h * sigma2)
    if not np.any(np.abs(lam / (beta * sigma2) - 1) < 1e-4):
        assert ppca_kl_slope(lam, sigma2, n, beta) == pytest.approx(numeric, rel=1e-5, abs=1e-6 / sigma2)


@given(spectra(), variances, latents)
def test_elbo_is_at_least_collapsed_and_at_most_the_likelihood(lam, sigma2, n):
    elbo = ppca_elbo(lam, sigma2, n)
    collapsed = collapsed_elbo(lam.sum(), lam.size, sigma2)
    slack = 1e-9 * (1 + abs(collapsed))
    assert collapsed - slack <= elbo <= gaussian_log_likelihood(lam) + slack
    if sigma2 >= critical_variance(lam):
        assert elbo == pytest.approx(collapsed)
        assert ppca_active_dims(lam, sigma2, n) == 0


def test_latent_variance_is_that_of_the_linear_encoder():
    """Posterior variance of z_j given x under x = W z + noise, W'W = lambda - sigma2: sigma2 / lambda."""
    eigenvalues, sigma2 = np.array([4.0, 2.0, 1.0]), 1.5
    gain = np.maximum(eigenvalues - sigma2, 0)
    assert ppca_latent_variance(eigenvalues, sigma2, 3) == pytest.approx(1 / (1 + gain / sigma2))


@given(st.floats(0.1, 5.0), st.floats(0.1, 5.0))
@settings(max_examples=30, deadline=None)
def test_linear_vae_surface(eigenvalue, sigma2):
    from scipy.optimize import minimize

    def loss(p):
        return -float(linear_vae_elbo(p[0], p[1], sigma2, eigenvalue))

    best = minimize(loss, [1.0, 0.5], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 2000})
    assert -best.fun == pytest.approx(ppca_elbo([eigenvalue], sigma2, 1), abs=1e-6)
    if sigma2 < eigenvalue:
        u = np.sqrt(eigenvalue - sigma2)
        assert -loss([u, u / eigenvalue]) == pytest.approx(ppca_elbo([eigenvalue], sigma2, 1), abs=1e-12)
    # The surface holds its definition with the latent variance optimised by hand.
    s = np.geomspace(1e-3, 1, 20001)
    mse = eigenvalue * (1 - 0.7 * 0.4) ** 2 + 0.7**2 * s
    values = -0.5 * np.log(2 * np.pi * sigma2) - mse / (2 * sigma2) - 0.5 * (eigenvalue * 0.16 + s - 1 - np.log(s))
    assert linear_vae_elbo(0.7, 0.4, sigma2, eigenvalue) == pytest.approx(values.max(), abs=1e-6)


def test_collapsed_hessian_changes_sign_at_lambda():
    """Stability block [[1/s, -sqrt(l)/s], [-sqrt(l)/s, 1]] in whitened amplitudes, by finite differences."""
    h, eigenvalue = 1e-4, 2.0

    def f(u, v, s):
        return -float(linear_vae_elbo(u, v / np.sqrt(eigenvalue), s, eigenvalue))

    for s in (1.9, 2.1):
        uu = (f(h, 0, s) - 2 * f(0, 0, s) + f(-h, 0, s)) / h**2
        vv = (f(0, h, s) - 2 * f(0, 0, s) + f(0, -h, s)) / h**2
        uv = (f(h, h, s) - f(h, -h, s) - f(-h, h, s) + f(-h, -h, s)) / (4 * h**2)
        assert uu * vv - uv**2 == pytest.approx((s - eigenvalue) / s**2, abs=1e-5)


def test_degenerate_leading_eigenvalue_doubles_the_slope():
    assert kl_slope_below([2.0, 2.0, 1.0]) == -0.5
    assert ppca_kl_slope([2.0, 2.0, 1.0], 2.0 * (1 - 1e-7), 3) == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: critical_variance([1.0, 2.0]), "descend"),
        (lambda: critical_variance([]), "non-empty"),
        (lambda: critical_variance([np.nan]), "finite"),
        (lambda: ppca_kl(DEFAULT, 0.0, 4), "sigma2"),
        (lambda: ppca_kl(DEFAULT, 0.5, 0), "n_latent"),
        (lambda: gaussian_log_likelihood([1.0, 0.0]), "smallest eigenvalue"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
