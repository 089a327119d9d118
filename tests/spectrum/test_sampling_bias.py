"""The bias of the largest eigenvalue, against random matrix theory and against repeated samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from commands import phasevae

from phasevae.prediction.predict import predict
from phasevae.spectrum.measure import compute_spectrum
from phasevae.spectrum.sampling_bias import bias_warning, sampling_bias

N, D = 2000, 400
RATIO = D / N


def spectrum(eigenvalues, n, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, len(eigenvalues))) * np.sqrt(eigenvalues)
    return compute_spectrum(x, with_variance_proxy=False)


def test_the_bias_of_an_eigenvalue_that_stands_out_is_that_of_a_spiked_model():
    """An eigenvalue l over a background of 1 becomes l + r l / (l - 1), r the ratio of features to samples."""
    found = spectrum(np.array([5.0] + [1.0] * (D - 1)), N)
    assert sampling_bias(found) == pytest.approx(RATIO * 5 / 4, rel=0.05)


def test_the_bias_of_isotropic_data_is_a_lower_bound():
    """The largest eigenvalue is (1 + sqrt r)^2 instead of 1, and the background's edge belongs to 1 + sqrt r."""
    root = RATIO**0.5
    assert sampling_bias(spectrum(np.ones(D), N)) == pytest.approx(root * (1 + root), rel=0.1)


def test_of_leading_eigenvalues_alone_it_is_a_lower_bound():
    whole = spectrum(np.array([5.0] + [1.0] * (D - 1)), N)
    part = replace(whole, eigenvalues=whole.eigenvalues[:8], n_features=D)
    assert 0.8 * sampling_bias(whole) < sampling_bias(part) < sampling_bias(whole)


@pytest.mark.parametrize(
    ("eigenvalues", "n", "warned"),
    [
        (np.ones(50), 1000, True),
        (np.array([2.0] + [1.0] * 49), 100, True),
        (np.arange(1, 51.0) ** -0.25, 250, True),
        (np.array([50.0] + [1.0] * 49), 100, False),
        (np.array([5.0] + [1.0] * 49), 1000, False),
        (np.arange(1, 51.0) ** -1, 250, False),
        (np.array([1.5, 1.0, 0.9, 0.6]), 200, False),
    ],
)
def test_a_warning_where_intervals_fail(eigenvalues, n, warned):
    """The intervals l_1 +- 1.96 standard errors of repeated samples, and how many of the samples are warned of."""
    found = [spectrum(eigenvalues, n, seed) for seed in range(40)]
    distance = [abs(each.eigenvalues[0] - eigenvalues[0]) / each.standard_errors[0] for each in found]
    share = np.mean([bias_warning(each) is not None for each in found])
    assert (np.mean(np.array(distance) > 1.96) > 0.3) == warned
    assert share > 0.9 if warned else share < 0.1


def test_two_eigenvalues_that_are_equal_are_no_reason_for_a_warning():
    found = spectrum(np.array([1.0, 0.5]), 400)
    equal = replace(found, eigenvalues=np.ones(2), standard_errors=np.full(2, (2 / 400) ** 0.5))
    assert bias_warning(equal) is None


def test_the_command_warns_of_the_bias_next_to_the_number(tmp_path):
    x = np.random.default_rng(0).normal(size=(1000, 50))
    for rows, warned in ((x, True), (x[:, :2] * [5.0, 1.0], False)):
        np.save(tmp_path / "x.npy", rows)
        done = phasevae("spectrum", "x.npy", "-o", "spectrum.json", folder=tmp_path)
        assert done.returncode == 0 and ("right for a VAE trained on these very samples" in done.stdout) == warned


@pytest.mark.parametrize(("beta", "hedged"), [(1.1, True), (0.5, False)])
def test_the_headline_is_of_these_samples_where_the_bias_decides(beta, hedged):
    """Of isotropic data, for whose source nothing lives above 1."""
    prediction = predict(np.random.default_rng(0).normal(size=(1000, 50)), 2, beta=beta)
    assert prediction.active_dims == 2
    assert ("for these very samples" in prediction.headline) == hedged
