"""Closed forms of two-level hierarchies, against the minimum of the objective of linear networks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from phasevae.errors import InputError
from phasevae.theory.hierarchical import Hierarchy, critical_beta, critical_beta_top, hierarchy_optimum
from phasevae.theory.ppca import ppca_kl_per_dim

weights = st.floats(0.1, 10)


class Linear:
    """The expected objective of linear networks in closed form: means z1 = V1 x, x = W1 z1, z2 = V2 z1, z1 = W2 z2."""

    def __init__(self, eigenvalues: list[float], hierarchy: Hierarchy):
        self.h, self.x = hierarchy, torch.diag(torch.tensor(eigenvalues, dtype=torch.float64))
        d, n, m = len(eigenvalues), hierarchy.n_latent, hierarchy.n_top
        self.shapes = [(n, d), (d, n), (m, n), (n, m), (n,), (m,)]
        self.size = sum(math.prod(shape) for shape in self.shapes)

    def objective(self, flat: torch.Tensor) -> torch.Tensor:
        h, parts = self.h, flat.split([math.prod(shape) for shape in self.shapes])
        v1, w1, v2, w2, log_q, log_t = (part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True))
        if h.posterior_variance is not None:
            log_q = torch.full_like(log_q, math.log(h.posterior_variance))
        elif h.largest_variance < math.inf:
            log_q = math.log(h.largest_variance) - torch.nn.functional.softplus(-log_q)
        noise, top_noise = torch.diag(log_q.exp()), torch.diag(log_t.exp())
        z1 = v1 @ self.x @ v1.T + noise
        left, top_left = (torch.eye(len(a), dtype=a.dtype) - a @ b for a, b in ((w1, v1), (w2, v2)))
        mse = torch.trace(left @ self.x @ left.T + w1 @ noise @ w1.T)
        residual = torch.trace(top_left @ z1 @ top_left.T + w2 @ top_noise @ w2.T)
        eta2 = h.prior_variance
        d1 = 0.5 * (residual / eta2 - len(z1) - (log_q - math.log(eta2)).sum())
        d2 = 0.5 * (torch.diagonal(v2 @ z1 @ v2.T + top_noise) - 1 - log_t).sum()
        return mse / (2 * h.sigma2) + h.beta * d1 + h.beta_top * d2

    def least(self, starts: int) -> float:
        def value(flat):
            tensor = torch.tensor(flat, requires_grad=True)
            loss = self.objective(tensor)
            loss.backward()
            return loss.item(), tensor.grad.numpy()

        draws = np.random.default_rng(0).normal(size=(starts, self.size))
        return min(minimize(value, 0.6 * start, jac=True, tol=1e-13).fun for start in draws)


def closed(eigenvalues: list[float], hierarchy: Hierarchy) -> float:
    optimum = hierarchy_optimum(eigenvalues, hierarchy)
    carried = np.array(eigenvalues[: hierarchy.n_latent])
    error = sum(eigenvalues) - carried.sum() + (carried * optimum.posterior_variance / optimum.variance).sum()
    divergence = hierarchy.beta * optimum.kl.sum() + hierarchy.beta_top * optimum.top_kl.sum()
    return float(error / (2 * hierarchy.sigma2) + divergence)


@settings(deadline=None, max_examples=8)
@given(weights, weights, st.floats(0.05, 3), weights, st.floats(0.3, 3))
def test_one_mode_of_fixed_posterior_variance(beta, beta_top, q, eigenvalue, eta2):
    hierarchy = Hierarchy(1, 1, 1.0, beta, beta_top, q, eta2)
    assert closed([eigenvalue], hierarchy) == pytest.approx(Linear([eigenvalue], hierarchy).least(3), rel=1e-6)


@settings(deadline=None, max_examples=5)
@given(weights, st.floats(1.01, 5), weights, st.floats(0.3, 3))
def test_one_mode_of_learned_posterior_variance(beta, ratio, eigenvalue, eta2):
    hierarchy = Hierarchy(1, 1, 1.0, beta, ratio * beta, None, eta2)
    assert closed([eigenvalue], hierarchy) == pytest.approx(Linear([eigenvalue], hierarchy).least(3), rel=1e-6)


@pytest.mark.parametrize(
    "hierarchy",
    [
        Hierarchy(2, 1, 1.0, 1.0, 0.4, 0.1),  # both modes would take the only latent of the top level
        Hierarchy(3, 2, 0.5, 8.0, 3.0, 0.9),  # the top level encodes noise of level 1
        Hierarchy(2, 3, 1.0, 0.7, 1.4),
        Hierarchy(2, 1, 1.0, 1.0, 0.5, largest_variance=20.0),
    ],
)
def test_several_modes(hierarchy):
    eigenvalues = [4.0, 2.0, 0.5]
    assert closed(eigenvalues, hierarchy) == pytest.approx(Linear(eigenvalues, hierarchy).least(4), rel=1e-5)


def test_without_a_bound_a_cheap_top_level_has_no_optimum():
    runaway = Hierarchy(1, 1, 1.0, 1.0, 0.5)
    with pytest.raises(InputError, match=r"beta_top: 0\.5, must be at least beta = 1\.0"):
        hierarchy_optimum([4.0], runaway)
    bounded = [closed([4.0], replace(runaway, largest_variance=bound)) for bound in (1e2, 1e4, 1e6)]
    # Each e-fold of the variance of z1 is worth (beta - beta_top) / 2 nats.
    assert np.diff(bounded) == pytest.approx(-0.25 * np.log(1e2))


@given(weights, st.floats(1.01, 5))
def test_level_1_is_an_ordinary_vae_below_a_dear_top_level(beta, ratio):
    optimum = hierarchy_optimum([4.0, 2.0, 0.5], Hierarchy(2, 2, 0.7, beta, ratio * beta))
    assert optimum.kl == pytest.approx(ppca_kl_per_dim([4.0, 2.0, 0.5], 0.7, 2, beta), abs=1e-12)
    assert optimum.information == pytest.approx(optimum.kl, abs=1e-12)
    assert not optimum.top_active.any()


@given(weights, weights, st.floats(0.05, 1), weights)
def test_the_boundaries_are_where_the_levels_collapse(beta, beta_top, q, eigenvalue):
    hierarchy = Hierarchy(1, 1, 0.5, beta, beta_top, q)
    optimum = hierarchy_optimum([eigenvalue], hierarchy)
    top, bottom = critical_beta_top(hierarchy, eigenvalue, beta), critical_beta(hierarchy, eigenvalue, beta_top)
    if abs(beta_top / top - 1) > 1e-6:
        assert optimum.top_active[0] == (beta_top < top)
    if abs(beta / bottom - 1) > 1e-6:
        assert optimum.active[0] == (beta < bottom)
    assert optimum.information[0] >= 0


@pytest.mark.parametrize(
    "values", [{"n_top": 0}, {"beta_top": -1.0}, {"sigma2": math.nan}, {"posterior_variance": 0.0}]
)
def test_bad_values_are_named(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Hierarchy(**{"n_latent": 1, "n_top": 1, "sigma2": 1.0} | values)
