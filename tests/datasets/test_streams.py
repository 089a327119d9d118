from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest

import phasevae
from phasevae import InputError
from phasevae.datasets import base, repeats
from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.streams import sample_stream
from phasevae.spectrum import moments
from phasevae.spectrum.measure import compute_spectrum
from phasevae.spectrum.spectrum_files import read_spectrum, write_spectrum


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(600, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)


def loader(x, **options):
    import torch

    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(x)), batch_size=100, **options)


class Single:
    """A data set of single samples with labels, as torch's are."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        if i >= len(self.x):
            raise IndexError
        return self.x[i].reshape(2, 3), 0


def sources(x, folder):
    import torch

    np.save(folder / "x.npy", x)
    yield "array", x
    yield "memory map", np.load(folder / "x.npy", mmap_mode="r")
    yield "path", folder / "x.npy"
    yield "string", str(folder / "x.npy")
    yield "tensor", torch.from_numpy(x)
    yield "tensor of images", torch.from_numpy(x).reshape(600, 1, 2, 3).requires_grad_()
    yield "table", pd.DataFrame(x)
    yield "loader", loader(x)
    yield "shuffled loader", loader(x, shuffle=True)
    yield "list of batches", [x[:200], x[200:]]
    halves = torch.from_numpy(x).split(300)
    yield "mappings", [{"data": half, "labels": torch.zeros(300)} for half in halves]
    yield "single samples", Single(x)
    yield "data set", dataset_from_path(folder / "x.npy")


def test_every_source_has_the_same_spectrum(x, tmp_path):
    expected = phasevae.compute_spectrum(x)
    for name, source in sources(x, tmp_path):
        actual = phasevae.compute_spectrum(source)
        np.testing.assert_allclose(actual.eigenvalues, expected.eigenvalues, rtol=1e-5, err_msg=name)
        assert actual.n_samples == 600 and actual.dimension == 6, name
        assert actual.variance_proxy == pytest.approx(expected.variance_proxy, rel=0.1), name


def test_the_short_api_imports_no_torch():
    code = (
        "import phasevae, numpy, sys; print(phasevae.compute_spectrum(numpy.array([[0.0], [2.0]])).eigenvalues[0]); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1.0\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: (row for row in np.ones((3, 2))), "anew each time"),
        (lambda: 5, "a int, must be an array"),
        (lambda: np.ones(3), r"shape \(3,\)"),
        (lambda: np.array([["a", "b"]]), "must be real numbers"),
        (lambda: [], "has no items"),
        (lambda: [np.ones((2, 3)), np.ones((2, 4))], "item 1 has 4 features, must have 3"),
        (lambda: [{"label": np.ones(2), "rows": np.ones((2, 3))}], "item 0: .* key must be one of label, rows"),
        (lambda: pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), "column 'b'"),
        (
            lambda: np.array([[1.0, 2.0], [np.nan, 3.0]]),
            "value nan at row 1, column 0 .* must be finite",
        ),
        (lambda: np.ones((4, 2)), "every feature is constant"),
        (lambda: np.ones((1, 2)), "at least 2 samples"),
    ],
)
def test_unusable_sources(data, words):
    with pytest.raises(InputError, match=words):
        phasevae.compute_spectrum(data())


def test_leading_eigenvalues_are_those_of_the_matrix():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 200)) * np.geomspace(4, 0.5, 200) + 5
    whole, top = compute_spectrum(x), compute_spectrum(x, top=10)
    np.testing.assert_allclose(top.eigenvalues, whole.eigenvalues[:10], rtol=1e-3)
    np.testing.assert_allclose(top.skewness, whole.skewness, atol=0.02)
    assert top.trace == pytest.approx(whole.trace) and top.dimension == 200


def test_leading_eigenvalues_of_fewer_samples_than_features_and_of_equal_ones(tmp_path):
    rng = np.random.default_rng(0)
    few = rng.normal(size=(20, 300))
    np.testing.assert_allclose(
        compute_spectrum(few, top=12).eigenvalues, compute_spectrum(few).eigenvalues[:12], rtol=1e-3
    )
    # More are asked for than there are: 19 directions hold the differences of 20 samples.
    everything = compute_spectrum(few, top=40).eigenvalues
    np.testing.assert_allclose(everything[:19], compute_spectrum(few).eigenvalues[:19], rtol=1e-3)
    assert everything.size == 20 and everything[19] < 1e-12 * everything[0]
    flat = rng.normal(size=(3000, 40))
    actual = compute_spectrum(flat, top=5)
    np.testing.assert_allclose(actual.eigenvalues, compute_spectrum(flat).eigenvalues[:5], rtol=1e-3)
    write_spectrum(tmp_path / "spectrum.json", actual)
    again = read_spectrum(tmp_path / "spectrum.json")
    assert again.dimension == 40 and again.eigenvalues.size == 5


def test_eigenvalues_that_do_not_settle_are_an_error(monkeypatch):
    monkeypatch.setattr(moments, "_MOST_BLOCKS", 1)
    with pytest.raises(InputError, match="did not settle"):
        compute_spectrum(np.random.default_rng(0).normal(size=(500, 400)), top=5)


def test_a_loader_is_streamed(monkeypatch):
    monkeypatch.setattr(base, "BLOCK_BYTES", 2**16)
    monkeypatch.setattr(repeats, "MOST_HASHES", 2**12)

    class Batches:
        """20 MB of rows that exist one batch at a time."""

        batch_size = 1600

        def __iter__(self):
            for seed in range(200):
                yield np.random.default_rng(seed).normal(size=(1600, 8))

    compute_spectrum(np.random.default_rng(0).normal(size=(50, 8)))
    tracemalloc.start()
    actual = compute_spectrum(Batches(), with_variance_proxy=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert actual.n_samples == 320_000 and peak < 2e6


def test_mapped_rows():
    rows = sample_stream(np.arange(6.0).reshape(3, 2)).mapped(lambda block: 2 * block)
    np.testing.assert_array_equal(np.concatenate(list(rows.read())), [[0, 2], [4, 6], [8, 10]])
