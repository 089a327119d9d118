"""Measured hierarchies, against the closed forms at the exact optimum of linear networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from phasevae.hierarchy import HierarchyArchitecture, HierarchyEnsemble
from phasevae.kernels.reconstruction import GaussianReconstruction
from phasevae.measurement.hierarchy import measure_hierarchy
from phasevae.rows import Rows
from phasevae.sweeps.settings import Member
from phasevae.theory.hierarchical import Hierarchy, hierarchy_optimum
from phasevae.theory.ppca import collapsed_elbo

EIGENVALUES = np.array([4.0, 2.0, 0.5])
ROWS = 4000


def rows() -> torch.Tensor:
    """Rows [ROWS, 3] of exactly these eigenvalues, along the axes."""
    x = np.random.default_rng(0).normal(size=(ROWS, 3))
    x -= x.mean(0)
    return torch.from_numpy(np.linalg.solve(np.linalg.cholesky(x.T @ x / ROWS), x.T).T * np.sqrt(EIGENVALUES))


def optimum_of(hierarchy: Hierarchy) -> HierarchyEnsemble:
    """The optimum as networks without hidden layers, mode by mode."""
    n, m = hierarchy.n_latent, hierarchy.n_top
    optimum = hierarchy_optimum(EIGENVALUES, hierarchy)
    signal, total = optimum.variance - optimum.posterior_variance, optimum.variance
    lam, r = EIGENVALUES[:n], hierarchy.top_effective_variance
    encoder, decoder = np.zeros((3, n)), np.zeros((n, 3))
    encoder[range(n), range(n)] = np.sqrt(signal / lam)
    decoder[range(n), range(n)] = np.sqrt(signal * lam) / total
    top_encoder, top_decoder = np.zeros((n, m)), np.zeros((m, n))
    share = np.minimum(1, r / total[:m])
    top_decoder[range(m), range(m)] = np.sqrt(total[:m] * (1 - share))
    top_encoder[range(m), range(m)] = np.sqrt((1 - share) / total[:m])
    log_noise = np.log(optimum.posterior_variance)
    learned = hierarchy.posterior_variance is None
    parts = [np.hstack([encoder, np.zeros((3, n))]) if learned else encoder, np.zeros(n)]
    parts += [log_noise] if learned else []
    parts += [decoder, np.zeros(3), np.hstack([top_encoder, np.zeros((n, m))]), np.zeros(m), np.log(share)]
    flat = np.concatenate([part.ravel() for part in (*parts, top_decoder, np.zeros(n))])
    architecture = HierarchyArchitecture(3, n, (), n_top=m, posterior_variance=hierarchy.posterior_variance)
    parameters = torch.zeros(1, architecture.row_length, dtype=torch.float64)
    parameters[0, : architecture.n_parameters] = torch.from_numpy(flat)
    return HierarchyEnsemble(architecture, parameters)


def measured(hierarchy: Hierarchy, held_out: int = 0, with_likelihood: bool = False) -> dict:
    x, member = rows(), Member(hierarchy.sigma2, hierarchy.beta, 0, hierarchy.beta_top)
    return measure_hierarchy(
        optimum_of(hierarchy), Rows.of(x), member, torch.arange(held_out), GaussianReconstruction(3), with_likelihood
    )


@pytest.mark.parametrize(
    "hierarchy",
    [
        Hierarchy(2, 1, 1.0, 1.0, 0.4, 0.1),
        Hierarchy(2, 2, 0.5, 8.0, 3.0, 0.9),
        Hierarchy(2, 2, 0.5, 1.0, 2.0),
        Hierarchy(2, 1, 0.5, 1.0, 0.5, largest_variance=50.0),
        Hierarchy(2, 2, 9.0, 1.0, 2.0),
    ],
    ids=["fixed", "noise in the top level", "learned", "at the clamp", "collapsed"],
)
def test_the_exact_optimum_measures_as_the_closed_forms(hierarchy):
    numbers, optimum = measured(hierarchy), hierarchy_optimum(EIGENVALUES, hierarchy)
    q = hierarchy.posterior_variance
    collapsed_kl = 0 if q is None else hierarchy.n_latent * 0.5 * (q - 1 - np.log(q))
    assert numbers["top"]["kl"] == pytest.approx(optimum.top_kl.sum(), abs=0.01)
    assert numbers["top"]["kl_per_dim"] == pytest.approx(optimum.top_kl, abs=0.01)
    assert numbers["top"]["active_dims"] == optimum.top_active.sum()
    assert numbers["kl"] == pytest.approx(optimum.kl.sum() + optimum.top_kl.sum() - collapsed_kl, abs=0.02)
    assert numbers["kl_per_dim"] == pytest.approx(optimum.information, abs=1e-6)
    assert numbers["active_dims"] == optimum.active.sum()
    assert numbers["latent_variance"] == pytest.approx(optimum.posterior_variance)
    assert numbers["mean_variance"] == pytest.approx(optimum.variance - optimum.posterior_variance, abs=1e-9)
    served = np.arange(hierarchy.n_latent) < hierarchy.n_top
    residual = np.where(served & (optimum.variance > hierarchy.top_effective_variance), 1, 0)
    residual = np.where(residual, hierarchy.top_effective_variance, optimum.variance)
    assert numbers["prior_residual"] == pytest.approx(residual, rel=0.02)
    error = EIGENVALUES.sum() - (EIGENVALUES[:2] * (1 - optimum.posterior_variance / optimum.variance)).sum()
    assert numbers["mse"] == pytest.approx(error, rel=0.01)
    penalty = hierarchy.beta * optimum.kl.sum() + hierarchy.beta_top * optimum.top_kl.sum()
    assert numbers["elbo"] == pytest.approx(collapsed_elbo(error, 3, hierarchy.sigma2) - penalty, abs=0.03)
    collapsed = collapsed_elbo(EIGENVALUES.sum(), 3, hierarchy.sigma2) - hierarchy.beta * collapsed_kl
    assert numbers["collapsed_elbo"] == pytest.approx(collapsed)
    assert numbers["elbo_gap"] == pytest.approx(numbers["elbo"] - numbers["collapsed_elbo"], abs=1e-9)


def test_log_likelihood_is_that_of_the_gaussian_that_the_decoders_define():
    # The posterior is nearly exact at weights of 1, and so is the estimate.
    hierarchy = Hierarchy(2, 1, 1.0, 1.0, 1.0, 0.3)
    numbers, model = measured(hierarchy, held_out=100, with_likelihood=True), optimum_of(hierarchy)
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    top = (model.decode_top(zero + 1) - model.decode_top(zero))[0].numpy()
    bottom = np.stack([model.decode(torch.eye(2, dtype=torch.float64)[None, [k]])[0, 0].numpy() for k in range(2)])
    covariance = bottom.T @ (top.T @ top + np.eye(2)) @ bottom + np.eye(3)
    expected = stats.multivariate_normal(cov=covariance).logpdf(rows().numpy()).mean()
    assert numbers["log_likelihood"] == pytest.approx(expected, abs=0.01)
    assert numbers["holdout"]["n_samples"] == 100
