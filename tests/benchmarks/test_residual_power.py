"""benchmarks/residual_power.py: the modes of Gaussian data by power iteration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from linear_vaes import gaussian_samples, linear_vae
from residual_power import extrapolated_spectrum

from phasevae.sweeps.settings import Member


@pytest.fixture(scope="module")
def gaussian():
    x, values, vectors = gaussian_samples([2.0, 1.2, 0.7, 0.3, 0.1], 20_000)
    return torch.from_numpy(x), values, vectors


def all_modes(values, s, n_active, degree=3):
    """The spectrum over all functions: polynomials of the active components, times an inactive component or alone.

    Of m_a-th degree in the active components a: lambda prod rho_a^(2 m_a) with an inactive one, and alone
    sum_a (s^2 / lambda_a) m_a rho_a^(2 (m_a - 1)) prod_{b != a} rho_b^(2 m_b).
    """
    rho2 = 1 - s / values[:n_active]
    modes = []
    for m in map(np.array, itertools.product(range(degree + 1), repeat=n_active)):
        modes += list(values[n_active:] * np.prod(rho2**m))
        of_others = [np.prod(np.delete(rho2**m, a)) for a in range(n_active)]
        modes.append(sum(s**2 / values[a] * m[a] * rho2[a] ** max(m[a] - 1, 0) * of_others[a] for a in range(n_active)))
    return np.sort(modes)[::-1]


def test_power_iteration_gives_the_modes_of_all_functions(gaussian):
    x, values, vectors = gaussian
    model = linear_vae(values, vectors, 1.6, 1, 2)
    found = extrapolated_spectrum(model, x, Member(1.6, 1.0, 0), [0], (512, 1024), (128, 256), 4, modes=3)
    expected = all_modes(values, 1.6, 1)[:3]
    assert (np.abs(found.eigenvalues - expected) < 4 * found.standard_errors + 0.05 * expected[0]).all()
    assert np.abs(found.largest_cell - expected).max() < 0.12 * expected[0]
