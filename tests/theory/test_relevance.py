from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae.theory.relevance import information, relevance_spectrum


def channel(seed: int, n: int):
    """Posterior means of some samples, and their variances."""
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(200, n)) @ rng.normal(size=(n, n)) * rng.uniform(0.1, 3, n)
    return mu, rng.uniform(0.05, 1.5, size=(200, n))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 6))
def test_no_invertible_map_of_the_latents_changes_it(seed, n):
    mu, variance = channel(seed, n)
    rng = np.random.default_rng(seed + 1)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    a = left @ np.diag(rng.uniform(0.2, 5, n)) @ right
    before, directions = relevance_spectrum(np.cov(mu.T, bias=True).reshape(n, n), variance.mean(0))
    noise = np.mean([a @ np.diag(each) @ a.T for each in variance], 0)
    after, mapped = relevance_spectrum(np.cov((mu @ a.T).T, bias=True).reshape(n, n), noise)
    assert after == pytest.approx(before, rel=1e-7, abs=1e-9 * before[0])
    # Coordinates along the directions are the same ones, up to their sign.
    first, second = (mu - mu.mean(0)) @ directions, (mu - mu.mean(0)) @ a.T @ mapped
    assert np.abs(second) == pytest.approx(np.abs(first), rel=1e-4, abs=1e-4 * np.abs(first).max())


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 6))
def test_it_is_the_largest_ratio_of_signal_to_noise_and_at_most_kl(seed, n):
    mu, variance = channel(seed, n)
    signal, noise = np.cov(mu.T, bias=True).reshape(n, n), np.diag(variance.mean(0))
    values, directions = relevance_spectrum(signal, variance.mean(0))
    assert np.diag(directions.T @ signal @ directions) == pytest.approx(values, abs=1e-9 * values[0])
    assert directions.T @ noise @ directions == pytest.approx(np.eye(n), abs=1e-9)
    tried = np.random.default_rng(seed).normal(size=(50, n))
    ratios = np.einsum("ti,ij,tj->t", tried, signal, tried) / np.einsum("ti,ij,tj->t", tried, noise, tried)
    assert ratios.max() <= values[0] * (1 + 1e-12)
    kl = 0.5 * (mu**2 + variance - 1 - np.log(variance)).mean(0).sum()
    assert information(values).sum() <= kl * (1 + 1e-9)


def test_at_the_optimum_it_says_where_a_latent_dies():
    eigenvalues, s = np.array([4.0, 2.0, 1.2]), 0.8
    # A dead latent and three active ones, in a rotated order.
    order = [2, 3, 0, 1]
    signal, noise = np.append(1 - s / eigenvalues, 0.0)[order], np.append(s / eigenvalues, 1.0)[order]
    values, _ = relevance_spectrum(np.diag(signal), noise)
    assert (1 + values) * s == pytest.approx([4.0, 2.0, 1.2, s])
    assert information(values)[:3] == pytest.approx(0.5 * np.log(eigenvalues / s))
