"""Objects that people hold their samples in: each is read as numpy says, or refused in one line."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest
import readable_objects
import refused_objects
import scipy.sparse
import torch
from object_samples import COUNTS, FRAME, IMAGES, LABELS, N, Pairs, Sliceable, X
from readable_objects import ACCEPTED
from refused_objects import REFUSED, Failing
from torch.utils.data import DataLoader, TensorDataset

import phasevae
from phasevae import InputError
from phasevae.datasets.streams import sample_stream
from phasevae.prediction.own_loss.rows import rows_of

WITH_IDS = np.c_[np.arange(N), X]

WITHOUT_IDS = {
    "array": WITH_IDS,
    "tensor": torch.from_numpy(WITH_IDS),
    "lists": WITH_IDS.tolist(),
    "mapping": {"x": WITH_IDS, "y": LABELS},
    "convertible": Sliceable(WITH_IDS),
    "table": FRAME.reset_index(),
    "structured array": FRAME.to_records(),
    "permuted": np.c_[np.random.default_rng(0).permutation(N), X],
    "torch sparse tensor": torch.from_numpy(WITH_IDS).to_sparse(),
    "scipy sparse array": scipy.sparse.csr_array(WITH_IDS),
    "list of vectors": list(WITH_IDS),
    "batches": [WITH_IDS[:30], WITH_IDS[30:]],
    "data set": TensorDataset(torch.from_numpy(WITH_IDS)),
    "loader": DataLoader(TensorDataset(torch.from_numpy(WITH_IDS)), batch_size=7),
    "shuffled loader": DataLoader(TensorDataset(torch.from_numpy(WITH_IDS)), batch_size=7, shuffle=True),
    "list of tables": [FRAME.reset_index()[:20], FRAME.reset_index()[20:]],
}


@pytest.mark.parametrize("name", WITHOUT_IDS)
def test_ids_are_refused_dropped_or_kept(name):
    data = WITHOUT_IDS[name]
    with pytest.raises(InputError, match=r"column .* must be left out"):
        phasevae.compute_spectrum(data)
    expected = np.linalg.eigvalsh(np.cov(X.T.astype(float), bias=True))[::-1]
    for drop in (0, [0], "0"):
        actual = phasevae.compute_spectrum(data, drop=drop)
        np.testing.assert_allclose(actual.eigenvalues, expected, rtol=1e-6)
        assert {"column 0", "column index"} & set(actual.reading.left_out)
    assert phasevae.compute_spectrum(data, drop=[]).dimension == 7
    with pytest.raises(InputError, match="drop: 'z', must be"):
        sample_stream(data, drop="z")


@pytest.mark.parametrize("data", [IMAGES, IMAGES.tolist(), Pairs(IMAGES), sample_stream(X)])
@pytest.mark.parametrize("drop", [0, [1], "a"])
def test_columns_that_are_not_there(data, drop):
    with pytest.raises(InputError, match=r"drop: .*, must be left out for"):
        sample_stream(data, drop=drop)


def test_columns_that_rise_throughout_are_kept_in_loaders_as_in_arrays():
    ramps = np.arange(80.0).reshape(40, 2)
    assert phasevae.compute_spectrum(list(ramps)).dimension == phasevae.compute_spectrum(ramps).dimension == 2


@pytest.mark.parametrize("name", ACCEPTED)
def test_samples_are_those_that_numpy_sees(name, tmp_path):
    case = ACCEPTED[name](tmp_path)
    expected = np.asarray(case.samples, dtype=np.float64)
    stream = sample_stream(case.data, most_rows=7, key=case.key)
    for _ in range(2):
        blocks = list(stream.read())
        assert max(map(len, blocks)) <= 7
        np.testing.assert_array_equal(np.concatenate(blocks), expected.reshape(len(expected), -1))
    assert stream.origin.shape == expected.shape[1:]
    for said in ("columns", "changes", "left_out"):
        if getattr(case, said):
            assert getattr(stream.origin, said) == getattr(case, said)


@pytest.mark.parametrize("name", ACCEPTED)
def test_spectrum_is_that_of_numpy(name, tmp_path):
    case = ACCEPTED[name](tmp_path)
    flat = np.asarray(case.samples, dtype=np.float64).reshape(len(case.samples), -1)
    exact = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1]
    actual = phasevae.compute_spectrum(sample_stream(case.data, key=case.key), with_variance_proxy=False)
    np.testing.assert_allclose(actual.eigenvalues, np.maximum(exact, 0), rtol=3e-7, atol=3e-7 * exact[0])
    assert actual.n_samples == len(flat)


@pytest.mark.parametrize("name", ACCEPTED)
def test_own_losses_see_the_shape_and_type(name, tmp_path):
    case = ACCEPTED[name](tmp_path)
    rows = rows_of(case.data, key=case.key)
    assert rows.shape == np.shape(case.samples)[1:] and rows.whole == case.whole
    block = next(rows.stream.read())
    seen = rows.tensor(block, torch.float32)
    assert seen.shape == (len(block), *rows.shape) and seen.dtype == (torch.int64 if case.whole else torch.float32)


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_in_one_line(name, tmp_path):
    build, words, *key = REFUSED[name]
    data = build(tmp_path)
    with pytest.raises(InputError, match=words) as error:
        phasevae.compute_spectrum(sample_stream(data, key=key[0] if key else None))
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 400


def test_an_error_of_the_users_code_is_the_cause():
    with pytest.raises(InputError) as error:
        phasevae.compute_spectrum(Failing())
    assert isinstance(error.value.__cause__, KeyError)


@pytest.mark.parametrize("module", [readable_objects, refused_objects])
def test_names_of_objects_are_unique(module):
    """A repeated key of a dictionary replaces the earlier case without a word."""
    (names,) = (
        [key.value for key in node.value.keys]
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.Assign) and node.targets[0].id in ("ACCEPTED", "REFUSED")
    )
    assert sorted(names) == sorted(set(names))


def test_sparse_rows_are_read_without_a_dense_copy():
    import tracemalloc

    matrix = scipy.sparse.random_array((20_000, 500), density=0.002, format="csc", rng=np.random.default_rng(0))
    tracemalloc.start()
    n_rows = sum(len(block) for block in sample_stream(matrix, most_rows=100).read())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_rows == 20_000 and peak < 5e6  # 80 MB when dense


def test_the_monitor_and_own_losses_read_the_same_objects():
    def loss(recon, x, mu, logvar):
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
        return (((recon - x) ** 2).sum() + kl) / len(x)

    counts = COUNTS.astype(float)
    data = {"train": scipy.sparse.csr_array(counts), "test": None}
    expected = phasevae.predict(counts, 2, sigma2=0.5)
    assert phasevae.CollapseMonitor(data, n_latent=2, sigma2=0.5, key="train").prediction.kl == expected.kl
    assert phasevae.predict(data, 2, loss=loss, key="train").kl == pytest.approx(expected.kl)
