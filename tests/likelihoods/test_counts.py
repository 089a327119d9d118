"""Sums over counts, for small counts by a table and for large ones by series, against the functions of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from phasevae.datasets.streams import sample_stream
from phasevae.likelihoods.count_objective import CountObjective
from phasevae.likelihoods.counts import TABLE, SizeFactors, summarise


def summary(x: np.ndarray, kind: str = "none", mean_total: float = 1.0):
    columns = np.arange(x.shape[1] - (kind == "last-column"))
    return summarise(sample_stream(x, most_rows=4), SizeFactors(kind, mean_total), columns)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 3 * TABLE), min_size=1, max_size=12).filter(any),
    st.floats(-4, 4).map(lambda power: 10.0**power),
)
def test_rising_factorials(values, r):
    x = np.array(values, dtype=float)[:, None]
    found = summary(x).rising(np.array([r]), np.array([0]))[:, 0]
    j = [np.arange(count) for count in values]
    expected = [
        sum(np.log1p(part / r).sum() for part in j),
        sum((part / (r + part)).sum() for part in j),
        sum((part * r / (r + part) ** 2).sum() for part in j),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    steps = special.gammaln(x + r) - special.gammaln(r) - x * np.log(r)
    np.testing.assert_allclose(found[0], steps.sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("kind", ["none", "total", "last-column"])
def test_derivatives_against_finite_differences(kind, dropout):
    rng = np.random.default_rng(0)
    x = rng.negative_binomial(1.5, 0.1, size=(40, 3)).astype(float)
    x[0, 1] = 2 * TABLE
    if kind == "last-column":
        x = np.hstack([x, rng.lognormal(size=(40, 1))])
    objective = CountObjective(summary(x, kind, x.sum(1).mean()), dropout=dropout, pressure=0.1)
    theta = np.array([[2.0, 2.5, 3.0], [-1.0, 0.5, -2.0], [0.3, -0.4, 1.0]])[[True, dropout, True]]
    columns = np.arange(3)
    _, gradient, hessian = objective(theta, columns)
    for i in range(len(theta)):
        step = np.zeros_like(theta)
        step[i] = 1e-5
        up, down = objective(theta + step, columns), objective(theta - step, columns)
        np.testing.assert_allclose(gradient[:, i], (up[0] - down[0]) / 2e-5, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(hessian[:, i], (up[1] - down[1]) / 2e-5, rtol=1e-6, atol=1e-7)


def test_groups_of_equal_size_factors_are_the_rows():
    rng = np.random.default_rng(0)
    x = np.hstack([rng.poisson(3, size=(50, 2)), rng.choice([0.5, 1.0, 4.0], size=(50, 1))]).astype(float)
    counted = summary(x, "last-column")
    theta, columns = np.array([[0.5, 1.0], [-1.0, -2.0], [0.0, 1.0]]), np.arange(2)
    exact = CountObjective(counted, dropout=True)(theta, columns)
    grouped = CountObjective(counted, dropout=True, grouped=True)(theta, columns)
    for one, other in zip(exact, grouped, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_a_part_of_the_features_has_the_same_derivatives():
    x = np.random.default_rng(0).negative_binomial(1.5, 0.1, size=(40, 4)).astype(float)
    objective = CountObjective(summary(x, "total", x.sum(1).mean()), dropout=False)
    theta = np.array([[2.0, 2.5, 3.0, 1.0], [0.3, -0.4, 1.0, 0.0]])
    chosen = np.array([3, 1])
    for whole, part in zip(objective(theta, np.arange(4)), objective(theta[:, chosen], chosen), strict=True):
        np.testing.assert_allclose(whole[chosen], part, rtol=1e-12)
