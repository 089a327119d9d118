"""Spectra of data with a condition against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from phasevae.datasets.registry import build_dataset
from phasevae.errors import InputError
from phasevae.spectrum.measure import spectrum_of
from phasevae.spectrum.sharded import part_of
from phasevae.spectrum.spectrum import looks_gaussian
from phasevae.spectrum.spectrum_files import read_spectrum, write_spectrum
from phasevae.theory.conditional import unaware_threshold


@pytest.fixture(scope="module")
def classes():
    return build_dataset("conditional", condition_eigenvalues=[[1.0, 0.3, 0.1], [0.4, 0.2, 0.2]], n_samples=3000)


def covariance(x):
    return np.cov(np.asarray(x, dtype=np.float64).T, bias=True)


def test_each_class_has_its_spectrum(classes):
    found = spectrum_of(classes, chunk_rows=700)
    stored, covariances, shares = classes.condition.stored, [], []
    for number, each in enumerate(found.conditions):
        rows = classes.x[stored == number]
        covariances.append(covariance(rows))
        shares.append(len(rows) / 3000)
        eigenvalues = np.linalg.eigvalsh(covariances[-1])[::-1]
        np.testing.assert_allclose(each.spectrum.eigenvalues, eigenvalues, rtol=1e-9)
        assert (each.value, each.share) == (number, pytest.approx(shares[-1]))
    within = np.einsum("c,cij->ij", shares, covariances)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(within)[::-1], rtol=1e-7)
    assert found.trace == pytest.approx(within.trace())
    assert found.critical_variance == found.conditions[0].spectrum.critical_variance > found.eigenvalues[0]
    assert found.leading is found.conditions[0].spectrum
    assert found.unaware_variance == pytest.approx(unaware_threshold(covariance(classes.x), shares, covariances))
    assert found.data_sha256 == classes.digest
    assert looks_gaussian(found)


def test_numbers_leave_the_residuals_of_regression(classes):
    dose = np.asarray(classes.x[:, :1] + np.random.default_rng(0).standard_normal((3000, 1)), dtype=np.float64)
    data = build_dataset("conditional", n_samples=3000, condition=dose, condition_kind="numbers")
    x = np.asarray(data.x, dtype=np.float64)
    design = np.column_stack([np.ones(3000), dose])
    left = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    found = spectrum_of(data)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(covariance(left))[::-1], rtol=1e-6)
    assert found.conditions == ()
    assert found.modes[0].share == 1.0
    assert found.condition == {"kind": "numbers", "source": ""}


def test_json_keeps_all(classes, tmp_path):
    written = spectrum_of(classes)
    write_spectrum(tmp_path / "spectrum.json", written)
    read = read_spectrum(tmp_path / "spectrum.json")
    for one, other in zip(written.conditions, read.conditions, strict=True):
        np.testing.assert_array_equal(one.spectrum.eigenvalues, other.spectrum.eigenvalues)
        assert (one.value, one.share) == (other.value, other.share)
    assert (read.condition, read.unaware_variance) == (written.condition, written.unaware_variance)
    assert read.critical_variance == written.critical_variance


def test_a_class_without_variance_is_collapsed_everywhere(classes):
    x = np.array(classes.x)
    x[classes.condition.stored == 1] = 0.0
    found = spectrum_of(replace(classes, x=x, reading=None))
    assert found.conditions[1].spectrum.critical_variance == 0.0
    assert found.critical_variance == found.conditions[0].spectrum.critical_variance


def test_parts_of_conditional_data_are_refused(classes):
    with pytest.raises(InputError, match="has a condition, must be used whole"):
        part_of(classes, (1, 2))
