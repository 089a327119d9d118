from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae import InputError
from phasevae.datasets import repeats
from phasevae.datasets.registry import build_dataset
from phasevae.datasets.store import save_dataset
from phasevae.spectrum import measure, spectrum_files


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 50), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_against_a_direct_computation(n, dimension, chunk_rows, seed):
    x = np.random.default_rng(seed).gamma(2.0, size=(n, dimension)).astype(np.float32)
    actual = measure.compute_spectrum(x, chunk_rows)
    centred = x.astype(float) - x.astype(float).mean(0)
    # Squared singular values: another algorithm than the one under test.
    singular = np.linalg.svd(centred, compute_uv=False)
    expected = np.zeros(dimension)
    expected[: singular.size] = singular**2 / n
    np.testing.assert_allclose(actual.eigenvalues, expected, atol=1e-12 * expected[0] * dimension)
    assert np.all(actual.eigenvalues >= 0)
    assert actual.trace == pytest.approx(expected.sum())
    assert actual.critical_variance == actual.eigenvalues[0]
    assert (actual.n_samples, actual.dimension) == (n, dimension)


def test_pca_of_scikit_learn(rng):
    from sklearn.decomposition import PCA

    x = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6))).astype(np.float32).astype(float)
    expected = PCA().fit(x).explained_variance_ * 499 / 500
    np.testing.assert_allclose(measure.compute_spectrum(x).eigenvalues, expected, rtol=1e-10)


def test_a_large_offset_does_not_cost_digits(rng):
    x = np.rint(rng.normal(size=(3000, 4)) * [64, 48, 32, 16]) / 32  # x + 2^17 is a number of single precision
    np.testing.assert_allclose(
        measure.compute_spectrum(x + 2**17).eigenvalues, measure.compute_spectrum(x).eigenvalues, rtol=1e-8
    )


def test_moments_of_known_distributions():
    # Skewness and excess kurtosis of: exponential 2, 6; two points +-1 0, -2.
    rng = np.random.default_rng(1)
    x = np.stack([3 * (rng.exponential(size=200_000) - 1), rng.choice((-1.0, 1.0), 200_000)], axis=1)
    actual = measure.compute_spectrum(x)
    np.testing.assert_allclose(actual.skewness, [2, 0], atol=0.06)
    np.testing.assert_allclose(actual.excess_kurtosis, [6, -2], atol=0.5)
    np.testing.assert_allclose(measure.compute_spectrum(-x).skewness, [-2, 0], atol=0.06)


def test_standard_errors_are_the_spread_over_repetitions():
    rng = np.random.default_rng(2)
    n, lam = 2000, np.array([4.0, 1.0])
    runs = [measure.compute_spectrum(rng.laplace(size=(n, 2)) * np.sqrt(lam / 2)) for _ in range(300)]
    spread = np.std([run.eigenvalues for run in runs], axis=0)
    stated = np.mean([run.standard_errors for run in runs], axis=0)
    np.testing.assert_allclose(stated, spread, rtol=0.12)
    np.testing.assert_allclose(stated, lam * np.sqrt(5 / n), rtol=0.05)  # excess kurtosis 3


@pytest.mark.parametrize("n", [2, 3, 40])
def test_the_kurtosis_of_few_samples_makes_no_error_smaller(n):
    """Signs have the least excess kurtosis that there is, -2, with which the error would be zero."""
    signs = np.where(np.arange(n) % 2, 1.0, -1.0)[:, None] * [3.0, 0.0]
    actual = measure.compute_spectrum(signs)
    np.testing.assert_allclose(actual.standard_errors, actual.eigenvalues * np.sqrt(2 / n))


def test_unmeasured_components_get_the_gaussian_error(rng, monkeypatch):
    monkeypatch.setattr(measure, "MOST_MEASURED", 1)
    actual = measure.compute_spectrum(rng.exponential(size=(5000, 3)) * [3, 2, 1])
    np.testing.assert_allclose(actual.standard_errors[1:], actual.eigenvalues[1:] * np.sqrt(2 / 5000))
    assert actual.standard_errors[0] > 1.5 * actual.eigenvalues[0] * np.sqrt(2 / 5000)
    assert actual.skewness.shape == (1,)


def test_null_directions_have_no_moments(rng, tmp_path):
    x = rng.normal(size=(100, 3))
    x[:, 2] = x[:, 0] + x[:, 1]
    actual = measure.compute_spectrum(x)
    assert actual.eigenvalues[2] == pytest.approx(0, abs=1e-12)
    assert np.isnan(actual.skewness[2]) and actual.standard_errors[2] == pytest.approx(0, abs=1e-12)
    spectrum_files.write_spectrum(tmp_path / "spectrum.json", actual)
    assert json.loads((tmp_path / "spectrum.json").read_text())["skewness"][2] is None
    np.testing.assert_array_equal(spectrum_files.read_spectrum(tmp_path / "spectrum.json").skewness, actual.skewness)


def test_memory_does_not_grow_with_the_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(repeats, "MOST_HASHES", 2**10)
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(200_000, 8)).astype(np.float32))
    x = np.load(path, mmap_mode="r")
    measure.compute_spectrum(x[:1000], 1000, with_variance_proxy=False)
    tracemalloc.start()
    measure.compute_spectrum(x, 1000, with_variance_proxy=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 10


def test_of_a_data_set_saved_or_not(tmp_path):
    built = build_dataset("synthetic", n_samples=500, name="mine")
    before = measure.spectrum_of(built)
    saved = save_dataset(built, tmp_path)
    after = measure.spectrum_of(tmp_path)
    assert before.data_sha256 == after.data_sha256 == saved.sha256
    assert after.name == "mine" and after.provenance == built.provenance
    np.testing.assert_array_equal(before.eigenvalues, after.eigenvalues)


def test_round_trip_and_keys(tmp_path):
    path = tmp_path / "spectrum.json"
    made = measure.spectrum_of(build_dataset("synthetic", n_samples=500))
    spectrum_files.write_spectrum(path, made)
    assert json.loads(path.read_text()).keys() >= {
        "eigenvalues", "standard_errors", "trace", "n_samples", "critical_variance", "skewness", "excess_kurtosis",
        "dimension", "name", "data_sha256", "provenance",
    }  # fmt: skip
    first = path.read_bytes()
    spectrum_files.write_spectrum(path, spectrum_files.read_spectrum(path))
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eigenvalues": [1, 2]}, "key 'eigenvalues' must descend"),
        ({"eigenvalues": []}, r"eigenvalues: \[\], must not be empty"),
        ({"eigenvalues": ["a", 1]}, r"eigenvalues\[0\]: 'a', must be a number"),
        ({"eigenvalues": [2, None]}, r"eigenvalues\[1\]: None, must be a number"),
        ({"trace": 0}, "trace: 0, must be above 0"),
        ({"n_samples": "many"}, "n_samples: 'many', must be a whole number"),
        ({"variance_proxy": "large"}, "variance_proxy: 'large', must be a number or null"),
        ({"standard_errors": [1.0]}, "key 'standard_errors' must have one number for each"),
    ],
)
def test_reading_damaged_files(tmp_path, rng, change, message):
    path = tmp_path / "spectrum.json"
    record = spectrum_files.to_json(measure.compute_spectrum(rng.normal(size=(10, 2))))
    record = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in record.items()}
    path.write_text(json.dumps({**record, **change}))
    with pytest.raises(InputError, match=message):
        spectrum_files.read_spectrum(path)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((999, 2), 0.1), "every feature is constant"),
        (np.ones(5), r"shape \(5,\)"),
        (np.ones((1, 5)), "at least 2 samples"),
        (np.array([[1.0, np.nan], [2, 3]]), "column 1"),
        (np.array([[np.inf, 1.0], [-np.inf, 3]]), "column 0"),
        (np.zeros((2, 20_001), np.int8), "20001 features, must be at most 20000"),
    ],
)
def test_unusable_data(x, message):
    with pytest.raises(InputError, match=message):
        measure.compute_spectrum(x)
