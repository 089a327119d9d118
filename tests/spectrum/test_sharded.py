"""A spectrum from parts against the one from all rows at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae import InputError
from phasevae.artifacts.tensors import write_tensors
from phasevae.cli.main import app
from phasevae.datasets.base import Dataset
from phasevae.datasets.registry import build_dataset
from phasevae.datasets.store import save_dataset
from phasevae.spectrum import sharded
from phasevae.spectrum.measure import compute_spectrum, spectrum_of
from phasevae.spectrum.spectrum import Spectrum
from phasevae.spectrum.spectrum_files import read_spectrum

typer_testing = pytest.importorskip("typer.testing")


def dataset(x: np.ndarray, name: str = "set") -> Dataset:
    d = x.shape[1]
    return Dataset(name, x, np.zeros(d), np.ones(d), {}, [], {"kind": "test"}, sha256=f"sha of {name}")


def first_pass(data: Dataset, count: int) -> list[sharded.Moments]:
    return [sharded.moments(*sharded.part_of(data, (number, count))) for number in range(1, count + 1)]


def in_parts(data: Dataset, count: int) -> Spectrum:
    basis = sharded.basis_of(sharded.merge(first_pass(data, count)))
    shapes = [sharded.shape(*sharded.part_of(data, (number, count)), basis, "b") for number in range(1, count + 1)]
    return sharded.spectrum_of_shapes(shapes)


def assert_same(actual: Spectrum, whole: Spectrum) -> None:
    np.testing.assert_allclose(actual.eigenvalues, whole.eigenvalues, rtol=1e-10, atol=1e-14 * whole.eigenvalues[0])
    np.testing.assert_allclose(actual.standard_errors, whole.standard_errors, rtol=1e-7, atol=1e-12 * whole.trace)
    np.testing.assert_allclose(actual.skewness, whole.skewness, atol=1e-8)
    np.testing.assert_allclose(actual.excess_kurtosis, whole.excess_kurtosis, atol=1e-8)
    assert actual.trace == pytest.approx(whole.trace, rel=1e-12)
    assert actual.variance_proxy == pytest.approx(whole.variance_proxy, rel=1e-9)
    assert (actual.n_samples, actual.dimension) == (whole.n_samples, whole.dimension)


@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_parts_give_the_spectrum_of_the_whole(count):
    """Eigenvalues over six decades, skewed data, a large offset and a constant feature."""
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(500, 7)) * np.logspace(0, -3, 7) @ np.linalg.qr(rng.normal(size=(7, 7)))[0] + 1e4
    data = dataset(np.column_stack([x, np.full(500, 3e5)]))
    assert_same(in_parts(data, count), spectrum_of(data))


@given(st.integers(2, 60), st.integers(1, 6), st.integers(1, 8), st.integers(0, 100))
@settings(max_examples=40)
def test_parts_of_any_size(n, dimension, count, seed):
    data = dataset(np.random.default_rng(seed).gamma(2.0, size=(n, dimension)).astype(np.float32))
    whole = compute_spectrum(data.x)
    actual = sharded.merge(first_pass(data, min(count, n)))
    np.testing.assert_allclose(
        sharded.basis_of(actual).eigenvalues, whole.eigenvalues, rtol=1e-10, atol=1e-13 * whole.eigenvalues[0]
    )
    assert actual.features.n_samples == n


def test_parts_that_are_constant_each():
    """All of the variance may lie between the parts."""
    x = np.repeat([[1.0, 5.0], [3.0, 5.0]], 10, axis=0)
    basis = sharded.basis_of(sharded.merge(first_pass(dataset(x), 2)))
    np.testing.assert_allclose(basis.eigenvalues, [1.0, 0.0], atol=1e-15)


def test_different_files_are_parts_of_one_spectrum():
    rng = np.random.default_rng(1)
    halves = [dataset(rng.normal(size=(n, 3)), name) for n, name in ((40, "a"), (60, "b"))]
    merged = sharded.merge([part for half in halves for part in first_pass(half, 3)])
    actual = sharded.spectrum_of_basis(sharded.basis_of(merged))
    whole = compute_spectrum(np.concatenate([half.x for half in halves]))
    np.testing.assert_allclose(actual.eigenvalues, whole.eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(actual.standard_errors, whole.eigenvalues * np.sqrt(2 / 100))
    assert actual.data_sha256 is None and np.isnan(actual.skewness).all()
    assert [part["name"] for part in actual.provenance["parts"]] == ["a", "b"]


def test_the_data_set_stays_known():
    data = dataset(np.random.default_rng(2).normal(size=(30, 2)))
    actual = in_parts(data, 3)
    assert (actual.name, actual.data_sha256, actual.provenance) == ("set", data.sha256, {"kind": "test"})


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([0, 2], "set: rows 10 to 19 are missing"),
        ([0, 1], "set: rows 20 to 29 are missing"),
        ([0, 1, 1, 2], "set: rows 10 to 19 are given twice"),
        ([], "no parts"),
    ],
)
def test_every_shard_must_be_given_once(chosen, message):
    parts = first_pass(dataset(np.random.default_rng(3).normal(size=(30, 2))), 3)
    with pytest.raises(InputError, match=message):
        sharded.merge([parts[number] for number in chosen])


def test_parts_that_do_not_fit_are_refused():
    a, b = (dataset(np.random.default_rng(4).normal(size=(20, d)), name) for d, name in ((2, "a"), (3, "b")))
    with pytest.raises(InputError, match="b: 3 features, must have 2 as a has"):
        sharded.merge([*first_pass(a, 1), *first_pass(b, 1)])
    with pytest.raises(InputError, match="every feature is constant"):
        sharded.basis_of(sharded.merge(first_pass(dataset(np.ones((4, 2))), 2)))
    basis = sharded.basis_of(sharded.merge(first_pass(a, 2)))
    with pytest.raises(InputError, match="b: rows 0 to 20 are not among those of the basis"):
        sharded.shape(*sharded.part_of(b), basis, "x")
    shapes = [sharded.shape(*sharded.part_of(a, (number, 2)), basis, str(number)) for number in (1, 2)]
    with pytest.raises(InputError, match="a: moments about another basis"):
        sharded.spectrum_of_shapes(shapes)


def test_a_bad_value_of_a_part_is_named_with_its_row_in_the_whole():
    x = np.random.default_rng(5).normal(size=(30, 2))
    x[25, 1] = np.nan
    with pytest.raises(InputError, match="set: value nan at row 25, column 1"):
        sharded.moments(*sharded.part_of(dataset(x), (3, 3)))


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 21)])
def test_a_shard_must_exist(shard):
    with pytest.raises(InputError, match=r"shard \d+/\d+ of 20 rows: must be I/N with"):
        sharded.part_of(dataset(np.ones((20, 2))), shard)


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        return typer_testing.CliRunner().invoke(app, list(arguments))

    return run


def test_by_hand(command, tmp_path):
    saved = save_dataset(build_dataset("synthetic", n_samples=300, eigenvalues=[4.0, 2.0, 1.0]), "set")
    for number in "12":
        assert command("moments", "set", "--shard", f"{number}/2", "-o", f"{number}.safetensors").exit_code == 0
    result = command(
        "spectrum", "--moments", "1.safetensors", "2.safetensors", "-o", "a.json", "--basis", "b.safetensors"
    )
    assert result.exit_code == 0, result.exception
    for number in "12":
        arguments = ("--shard", f"{number}/2", "--basis", "b.safetensors", "-o", f"shape{number}.safetensors")
        assert command("moments", "set", *arguments).exit_code == 0
    assert command("spectrum", "--moments", "shape2.safetensors", "shape1.safetensors", "-o", "b.json").exit_code == 0
    whole = spectrum_of(saved)
    assert_same(read_spectrum("b.json"), whole)
    assert json.loads((tmp_path / "b.json").read_text())["data_sha256"] == saved.sha256
    np.testing.assert_allclose(read_spectrum("a.json").eigenvalues, whole.eigenvalues, rtol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("moments", "x.npy", "--shard", "2", "-o", "m"), "--shard: '2', must be like 3/8"),
        (("spectrum", "--moments", "x.npy", "-o", "m"), "x.npy: not a weights file"),
        (("spectrum", "--moments", "w.safetensors", "-o", "m"), "must be moments or shape of `phasevae moments`"),
        (("spectrum", "--moments", "k.safetensors", "-o", "m"), "parts[0]: key 'data_sha256' is missing"),
        (("moments", "x.npy", "--basis", "w.safetensors", "-o", "m"), "must be basis of"),
        (("spectrum", "--moments", "x.npy", "--grey", "-o", "m"), "grey: must be given to `phasevae moments`"),
        (("spectrum", "x.npy", "x.npy", "-o", "m"), "several DATA go with --moments"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, arguments, message):
    np.save("x.npy", np.arange(6.0).reshape(3, 2))
    write_tensors("w.safetensors", {"a": np.ones(2)}, {"kind": "other"})
    write_tensors("k.safetensors", {"a": np.ones(2)}, {"kind": "Moments", "parts": [{"name": 1}]})
    result = command(*arguments)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
