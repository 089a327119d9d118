from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays

from phasevae import InputError
from phasevae.artifacts.files import file_sha256
from phasevae.datasets import base, standardize
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.registry import build_dataset, expected_shape
from phasevae.datasets.store import load_dataset, save_dataset


def standardized(x, mode, label="data"):
    return standardize.standardized(RawSamples(np.asarray(x), label), mode)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small_blocks(monkeypatch):
    """Every stream goes through many blocks."""
    monkeypatch.setattr(base, "BLOCK_BYTES", 200)


def covariance(x):
    return np.cov(np.asarray(x, dtype=float).T, bias=True)


# Standardisation


@pytest.mark.parametrize("in_memory", [True, False])
def test_modes_against_their_definition(rng, small_blocks, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(standardize, "IN_MEMORY_BYTES", 0)
    raw = rng.normal(3.0, [1.0, 2.0, 0.5], (100, 3))
    variance = raw.var(0)
    expected = {
        "none": raw,
        "center": raw - raw.mean(0),
        "global": (raw - raw.mean(0)) / np.sqrt(variance.mean()),
        "per-feature": (raw - raw.mean(0)) / np.sqrt(variance),
    }
    for mode, values in expected.items():
        actual = standardized(raw, mode)
        assert actual.x.dtype == np.float32
        np.testing.assert_allclose(actual.x, values, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(actual.x * actual.scale + actual.mean, raw, rtol=1e-5, atol=1e-5)
        assert actual.preprocessing == {"standardize": mode}


@given(
    np_arrays(np.float64, (20, 3), elements=st.floats(-100, 100)),
    st.floats(0.1, 1e6),
    st.floats(-1e6, 1e6),
)
@settings(max_examples=60, deadline=None)
def test_per_feature_has_unit_variance_whatever_the_units(raw, factor, offset):
    # Features whose spread is lost in the rounding of the shifted values are not the claim.
    raw = np.round(raw, 1) + np.linspace(0, 7, 20)[:, None] ** 2
    varying = np.ptp(raw, axis=0) > 0.5
    raw, offset = raw[:, varying], offset * min(1.0, factor)
    if raw.shape[1]:
        actual = standardized(raw * factor + offset, "per-feature")
        np.testing.assert_allclose(np.asarray(actual.x, float).var(0), 1, atol=1e-4)
        np.testing.assert_allclose(np.asarray(actual.x, float).mean(0), 0, atol=1e-4)


def test_constant_features_are_zero_named_and_recorded(rng):
    raw = rng.normal(size=(50, 15))
    raw[:, 1:13] = 0.1  # a value that no sum of 50 terms reproduces exactly
    with pytest.warns(UserWarning, match=r"data: 12 of 15 features .*: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.$"):
        actual = standardized(raw, "per-feature")
    assert actual.constant_features == list(range(1, 13))
    assert np.all(actual.x[:, 1:13] == 0)
    assert np.all(actual.scale[1:13] == 1)
    np.testing.assert_allclose(np.diag(covariance(actual.x))[[0, 13, 14]], 1, rtol=1e-5)


def test_no_warning_without_constant_features(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert standardized(rng.normal(size=(9, 2)), "per-feature").constant_features == []


def test_a_large_offset_costs_no_digits(rng, small_blocks):
    raw = 1e8 + rng.normal(size=(5000, 2))
    np.testing.assert_allclose(standardized(raw, "per-feature").scale, (raw - 1e8).std(0), rtol=1e-6)


def test_further_axes_are_flattened_and_integers_taken(rng):
    assert standardized(rng.integers(0, 255, (10, 4, 3), dtype=np.uint8), "center").x.shape == (10, 12)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.ones((5, 2)), "every feature is constant"),
        (np.zeros(5), r"shape \(5,\), must be \[samples, features\]"),
        (np.zeros((1, 5)), "at least 2 samples"),
        (np.zeros((5, 0)), "at least 2 samples and 1 feature"),
        (np.array([["a", "b"], ["c", "d"]]), "must be real numbers"),
        (np.ones((3, 2)) * 1j, "complex128, must be real numbers"),
        (np.array([[1.0, 2], [3, np.nan], [np.inf, 4]]), "value nan at row 1, column 1"),
        (np.array([[1.0, 2], [3, 4], [-np.inf, 4]]), "value -inf at row 2, column 0"),
        (np.array([[1.0, 2], [3, 1e300]]), r"value 1e\+300 at row 1, column 1"),
    ],
)
def test_unusable_arrays(raw, message):
    with pytest.raises(InputError, match=message) as caught:
        standardized(raw, "none", "mine.npy")
    assert str(caught.value).startswith("mine.npy: ")


def test_row_of_a_bad_value_counts_over_blocks(rng, small_blocks):
    raw = rng.normal(size=(1000, 3))
    raw[777, 2] = np.nan
    with pytest.raises(InputError, match="row 777, column 2"):
        standardized(raw, "none")


# Synthetic data


@pytest.mark.parametrize("kind", ["synthetic", "mixture"])
def test_covariance_has_the_given_eigenvalues(kind):
    lam, n = [4.0, 2.0, 1.0, 0.5], 40_000
    actual = build_dataset(kind, eigenvalues=lam, n_samples=n, seed=3)
    error = np.array(lam) * np.sqrt(2 / n)
    assert np.all(np.abs(np.linalg.eigvalsh(covariance(actual.x))[::-1] - lam) < 4 * error)
    np.testing.assert_allclose(actual.x.mean(0, dtype=float), 0, atol=1e-6)
    # A random basis: no feature is a principal component.
    assert np.abs(covariance(actual.x) - np.diag(np.diag(covariance(actual.x)))).max() > 0.1


def test_defaults_of_the_paper():
    actual = build_dataset("synthetic")
    lam = np.exp(-0.1 * np.arange(8))
    assert actual.x.shape == (256_000, 8)
    sample = np.linalg.eigvalsh(covariance(actual.x))[::-1]
    assert np.all(np.abs(sample - lam) < 4 * lam * np.sqrt(2 / 256_000))


def test_mixture_is_bimodal_along_v():
    # With a = 1 the whitened projection on v is +-1 alone: kurtosis 1 instead of the 3 of a Gaussian.
    lam = [1.0] * 4
    actual = build_dataset("mixture", eigenvalues=lam, separation=1.0, n_samples=20_000, standardize="none")
    values, vectors = np.linalg.eigh(covariance(actual.x))
    whitened = actual.x @ vectors / np.sqrt(values)
    squares = whitened.T**2 @ whitened**2 / len(whitened)
    # E|y|^4 = (D - 1)(D + 1) + 2 (D - 1) + 1 for D - 1 Gaussian directions and one of values +-1.
    assert squares.sum() == pytest.approx(22, abs=0.5)
    gaussian = build_dataset("mixture", eigenvalues=lam, separation=0.0, n_samples=20_000, standardize="none")
    assert np.mean(np.sum(gaussian.x**2, 1) ** 2) == pytest.approx(24, abs=0.8)


def test_samples_depend_on_the_seed_alone():
    def build(seed):
        return build_dataset("synthetic", n_samples=100, seed=seed).x

    np.testing.assert_array_equal(build(1), build(1))
    assert np.abs(build(1) - build(2)).max() > 0.1


# Options


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gauss", {}, "^kind: 'gauss', must be one of synthetic, mixture, clusters, conditional, counts, cifar10, "),
        ("synthetic", {"sedd": 1}, "^sedd: unknown option of kind 'synthetic', did you mean 'seed'"),
        ("array", {}, "^path: missing"),
        ("array", {"path": 5}, "^path: 5, must be the path"),
        ("synthetic", {"standardize": "unit"}, "^standardize: 'unit', must be one of none, center, global, per-f"),
        ("synthetic", {"n_samples": 1}, "^n_samples: 1, must be an integer of at least 2"),
        ("synthetic", {"n_samples": "1e4"}, "^n_samples: '1e4', must be an integer"),
        ("synthetic", {"seed": -1}, "^seed: -1"),
        ("synthetic", {"eigenvalues": [1, -1]}, "^eigenvalues: "),
        ("synthetic", {"eigenvalues": []}, "^eigenvalues: "),
        ("synthetic", {"eigenvalues": "4,2"}, "^eigenvalues: "),
        ("mixture", {"separation": 1.5}, "^separation: 1.5, must be a number between 0 and 1"),
        ("images", {"path": ".", "size": 0}, "^size: 0, must be an integer of at least 1"),
        ("images", {"path": ".", "grey": "yes"}, "^grey: 'yes', must be true or false"),
        ("cifar10", {"split": "valid"}, "^split: 'valid', must be one of train, test, all"),
        ("counts", {"rates": [1, 0]}, r"^rates: \[1, 0\], must be positive numbers"),
        (
            "counts",
            {"rates": [1.0], "log_variances": [1, 1]},
            "^log_variances: 2 numbers, must be at most one",
        ),
        ("counts", {"dispersion": -1}, r"^dispersion: \[-1\], must be positive"),
        ("digits", {"binarize": 16}, "^binarize: 16, must be a number from 0 to below 16"),
    ],
)
def test_bad_options(kind, options, message):
    with pytest.raises(InputError, match=message):
        build_dataset(kind, **options)


def test_digits():
    with pytest.warns(UserWarning, match="3 of 64 features are constant and kept at zero: 0, 32, 39"):
        actual = build_dataset("digits")
    assert actual.x.shape == (1797, 64)
    assert actual.constant_features == [0, 32, 39]
    assert len(np.unique(actual.scale)) == 1
    assert np.trace(covariance(actual.x)) == pytest.approx(64, abs=1e-4)


# Saving and loading


def test_round_trip(tmp_path, small_blocks):
    built = build_dataset("synthetic", name="mine", n_samples=100)
    saved = save_dataset(built, tmp_path / "set")
    loaded = load_dataset(tmp_path / "set", verify=True)
    for actual in (saved, loaded):
        assert isinstance(actual.x, np.memmap) and not actual.x.flags.writeable
        np.testing.assert_array_equal(actual.x, built.x)
        np.testing.assert_array_equal(actual.mean, built.mean)
        assert actual.name == "mine" and actual.sha256 == file_sha256(tmp_path / "set" / "data.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "set" / "data.npy"), built.x)
    record = json.loads((tmp_path / "set" / "data.json").read_text())
    assert (record["n_samples"], record["dimension"]) == (100, 8)
    assert record["provenance"]["options"]["n_samples"] == 100
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["data.json", "data.npy"]


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}-in.npy", np.arange(12.0).reshape(4, 3))
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}-in.npy").rename(tmp_path / name / "in.npy")
        save_dataset(build_dataset("array", path=tmp_path / name / "in.npy"), tmp_path / name / "set")
    for file in ("data.npy", "data.json"):
        assert (tmp_path / "a" / "set" / file).read_bytes() == (tmp_path / "b" / "set" / file).read_bytes()
    assert str(tmp_path) not in (tmp_path / "a" / "set" / "data.json").read_text()


def damage_shape(folder):
    np.save(folder / "data.npy", np.zeros((3, 8), np.float32))


def damage_type(folder):
    np.save(folder / "data.npy", np.zeros((100, 8)))


def cut_array(folder):
    (folder / "data.npy").write_bytes((folder / "data.npy").read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "data.npy").unlink(), "data.npy: no such file"),
        (lambda folder: (folder / "data.json").unlink(), "data.json: no such file"),
        (lambda folder: (folder / "data.json").write_text("{}"), "data.json: key 'name' is missing"),
        (lambda folder: (folder / "data.npy").write_bytes(b""), "data.npy: not a .npy file, or damaged"),
        (cut_array, "data.npy: not a .npy file, or damaged"),
        (damage_shape, r"float32 of shape \(3, 8\), must be float32 \(100, 8\)"),
        (damage_type, "float64 of shape"),
    ],
)
def test_loading_damaged_folders(tmp_path, damage, message):
    save_dataset(build_dataset("synthetic", n_samples=100), tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path)


def test_verify_notices_changed_bytes(tmp_path):
    save_dataset(build_dataset("synthetic", n_samples=100), tmp_path)
    content = bytearray((tmp_path / "data.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "data.npy").write_bytes(content)
    load_dataset(tmp_path)
    with pytest.raises(InputError, match=r"data.npy: sha256 .* must be"):
        load_dataset(tmp_path, verify=True)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("synthetic", {"eigenvalues": [2.0, 1.0], "n_samples": 50}), ("mixture", {"n_samples": 60}), ("digits", {})],
)
@pytest.mark.filterwarnings("ignore:digits")
def test_expected_shape_is_that_of_the_built_set(kind, options):
    assert expected_shape(kind, **options) == build_dataset(kind, **options).x.shape


def test_expected_shape_of_cifar10_is_the_papers_and_of_files_unknown():
    assert expected_shape("cifar10") == (60_000, 64)
    assert expected_shape("cifar10", split="test", grey=False, size=None) == (10_000, 3072)
    assert expected_shape("array", path="x.npy") is None


def test_clusters_are_unit_vectors_with_their_weights():
    actual = build_dataset("clusters", weights=[0.1, 0.9], n_samples=20_000, standardize="none").x
    assert set(map(tuple, np.unique(actual, axis=0))) == {(0.0, 1.0), (1.0, 0.0)}
    assert actual[:, 0].mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 20_000))
    values = np.linalg.eigvalsh(np.cov(actual.T, bias=True))
    assert values[1] == pytest.approx(2 * actual[:, 0].var()) and values[0] == pytest.approx(0, abs=1e-7)
    noisy = build_dataset("clusters", weights=[1, 1, 1], noise=0.1, n_samples=20_000).x
    spread = np.linalg.eigvalsh(np.cov(noisy.T, bias=True))
    assert spread == pytest.approx([0.01, 1 / 3 + 0.01, 1 / 3 + 0.01], rel=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": [1.0]}, "weights: \\[1.0\\]"),
        ({"weights": [1, -1]}, "two or more positive"),
        ({"noise": -1}, "noise: -1"),
    ],
)
def test_clusters_refuse_what_makes_no_sense(options, words):
    with pytest.raises(InputError, match=words):
        build_dataset("clusters", **options)


@pytest.mark.parametrize(("dispersion", "scatter"), [(None, 0.0), (2.0, 0.5)])
def test_counts_have_the_moments_of_their_rates(dispersion, scatter):
    """Given the rate m, the mean is m and the variance m + m^2 / r; E m^2 = (E m)^2 e^v for log variance v."""
    options = {"rates": [3.0, 5.0], "log_variances": [0.3, 0.3], "dispersion": dispersion}
    x = build_dataset("counts", n_samples=40_000, **options).x
    assert x.dtype == np.float32 and (x == np.rint(x)).all() and (x >= 0).all()
    mean = np.array([3.0, 5.0])
    assert x.mean(0) == pytest.approx(mean, rel=0.03)
    # Equal log variances along all directions are the same in every basis.
    second = np.square(mean) * np.exp(0.3)
    assert x.var(0) == pytest.approx(mean + (1 + scatter) * second - np.square(mean), rel=0.08)


def test_binarised_digits_are_one_above_the_threshold():
    raw = build_dataset("digits", standardize="none").x
    binary = build_dataset("digits", standardize="none", binarize=8)
    assert np.array_equal(binary.x, (raw > 8).astype(np.float32))
    assert "preparation: 1 where above 8, else 0" in str(binary.reading)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, -2e18])
def test_values_that_no_reader_lets_through_are_refused(tmp_path, value):
    """With a digest that fits, as another program could write them."""
    built = build_dataset("synthetic", eigenvalues=[2.0, 1.0], n_samples=50)
    x = np.array(built.x)
    x[7, 1] = value
    saved = save_dataset(dataclasses.replace(built, x=x), tmp_path / "set")
    assert saved.sha256 == file_sha256(tmp_path / "set" / "data.npy")
    with pytest.raises(InputError, match=r"data\.npy: value \S+ at row 7, column 1 .*, must be finite"):
        load_dataset(tmp_path / "set", verify=True)
