import numpy as np
import pytest

from phasevae.theory.residual import ppca_residual_edge

EIGENVALUES = np.exp(-0.1 * np.arange(8))


def test_both_ends_of_each_branch_are_marginal():
    n_latent = 4
    for k in range(1, n_latent + 1):
        upper, lower = EIGENVALUES[k - 1] * (1 - 1e-6), EIGENVALUES[k] * (1 + 1e-6)
        for s in (upper, lower):
            assert ppca_residual_edge(EIGENVALUES, s, n_latent) == pytest.approx(s, rel=1e-5)
        middle = np.sqrt(upper * lower) * np.array([0.98, 1.0, 1.02])
        assert (ppca_residual_edge(EIGENVALUES, middle, n_latent) < middle).all()


def test_with_too_few_latents_the_edge_is_above():
    assert ppca_residual_edge(EIGENVALUES, 0.6, 2) == pytest.approx(EIGENVALUES[2])
    assert ppca_residual_edge(EIGENVALUES, [1.3, 2.0], 2) == pytest.approx([1.0, 1.0])


def test_it_depends_on_the_product_of_sigma2_and_beta():
    x = np.array([0.3, 0.75, 0.9, 1.2])
    assert ppca_residual_edge(EIGENVALUES, x / 3, 4, beta=3.0) == pytest.approx(ppca_residual_edge(EIGENVALUES, x, 4))


def test_no_direction_is_left_when_all_are_carried():
    assert ppca_residual_edge([2.0, 1.0], 0.5, 4) == pytest.approx(0.25)
