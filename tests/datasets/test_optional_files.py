"""Files whose readers are extras. Each test skips without its library, but for those of its absence."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from readings import SPARSE, X, assert_reads, assert_refuses


@pytest.mark.parametrize(
    ("name", "library"),
    [("x.h5", "h5py"), ("x.h5ad", "anndata"), ("x.zarr.zip", "zarr")],
)
def test_without_its_library(tmp_path, monkeypatch, name, library):
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / name).write_bytes(b"PK")
    assert_refuses(tmp_path / name, rf"needs {library}, which is not installed \(pip install 'phasevae\[formats\]'\)$")


# HDF5


@pytest.fixture
def hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")

    def write(name="x.h5", userblock=0, **arrays):
        path = tmp_path / name
        with h5py.File(path, "w", userblock_size=userblock) as file:
            for place, values in arrays.items():
                file.create_dataset(place.replace("_", "/"), data=values)
        return path

    return write


def test_hdf5(hdf5):
    assert_reads(hdf5(x=X))
    assert_reads(hdf5(name="x.hdf5", group_inner_x=X.reshape(40, 2, 2)))
    several = hdf5(x=X, group_y=2 * X)
    assert assert_reads(several).reading.left_out == ("entry group/y",)
    assert_refuses(hdf5(name="y.h5", z=X, group_y=X), "holds several arrays: key must be one of group/y, z")
    for key in ("group/y", "/group/y"):
        assert_reads(several, 2 * X, key=key)


def test_matlab_73(hdf5):
    def matlab(**arrays):
        path = hdf5(name="x.mat", userblock=512, **arrays)
        content = bytearray(path.read_bytes())
        content[:19] = b"MATLAB 7.3 MAT-file"
        path.write_bytes(content)
        return path

    assert_reads(matlab(x=X.T))
    assert_reads(matlab(x=X.reshape(40, 2, 2).T), X)
    assert_refuses(matlab(z=X.T, y=X.T), "key must be one of y, z")


def test_sparse_matrices_in_hdf5(hdf5):
    for matrix in (sp.csr_array(SPARSE), sp.csc_array(SPARSE)):
        path = hdf5(m_data=matrix.data, m_indices=matrix.indices, m_indptr=matrix.indptr, m_shape=matrix.shape)
        assert_refuses(path, "is a sparse matrix without its format")
    genes = sp.csc_array(SPARSE.T)
    path = hdf5(
        matrix_data=genes.data,
        matrix_indices=genes.indices,
        matrix_indptr=genes.indptr,
        matrix_shape=genes.shape,
        matrix_barcodes=[b"cell"] * 40,
    )
    assert_reads(path, SPARSE)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds no arrays"),
        ({"x": np.zeros(4, [("a", "f8"), ("b", "i4")])}, "x: holds values of type .*, must be real numbers"),
        ({"x": [b"a", b"b"]}, "x: holds values of type .*, must be real numbers"),
        ({"x": X[:, 0]}, r"x: shape \(40,\), must be \[samples, features\]"),
        ({"x": 3.0}, r"x: shape \(\)"),
    ],
)
def test_refused_hdf5(hdf5, arrays, message):
    assert_refuses(hdf5(**arrays), message)


@pytest.mark.parametrize("cut", [0, 100, -100])
def test_damaged_hdf5(hdf5, cut):
    path = hdf5(x=X)
    path.write_bytes(path.read_bytes()[:cut])
    assert_refuses(path, "not an? .h5 file, or damaged")


# zarr


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr(tmp_path, zarr_format):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "x.zarr"
    zarr.save_array(str(path), X, zarr_format=zarr_format)
    assert assert_reads(path).provenance["source"]["folder"] == "x.zarr"
    path = tmp_path / "group"
    zarr.save_group(str(path), x=X, y=2 * X, zarr_format=zarr_format)
    assert assert_reads(path).reading.left_out == ("entry y",)
    assert_reads(path, 2 * X, key="y")


def test_zipped_and_damaged_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    store = zarr.storage.ZipStore(tmp_path / "x.zarr.zip", mode="w")
    zarr.save_array(store, X)
    store.close()
    assert_reads(tmp_path / "x.zarr.zip")
    (tmp_path / "x.zarr.zip").write_bytes(b"hello")
    assert_refuses(tmp_path / "x.zarr.zip", "not a zarr store, or damaged")
    (tmp_path / "y.zarr").mkdir()
    (tmp_path / "y.zarr" / "zarr.json").write_text("{}")
    assert_refuses(tmp_path / "y.zarr", "not a zarr store, or damaged|holds no arrays")


# AnnData


@pytest.fixture
def h5ad(tmp_path):
    anndata = pytest.importorskip("anndata")

    def write(raw=False, **content):
        rows = pd.DataFrame(index=np.array([f"cell{i}" for i in range(40)], dtype=object))
        data = anndata.AnnData(obs=rows, **content)
        if data.n_vars:
            data.var.index = np.array(["u", "v", "w", "x"], dtype=object)
        _as_objects(data)
        if raw:
            data.raw = data.copy()
            data = data[:, :2].copy()
            _as_objects(data)
            _as_objects(data.raw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data.write_h5ad(tmp_path / "x.h5ad")
        return tmp_path / "x.h5ad"

    return write


def _as_objects(data):
    """Not all versions of anndata write the text type of pandas 3."""
    for frame in (data.var, getattr(data, "obs", data.var)):
        frame.index = pd.Index(frame.index.to_numpy(dtype=object), dtype=object)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_anndata(h5ad, kind):
    path = h5ad(X=kind(SPARSE), layers={"counts": kind(np.floor(SPARSE))}, obsm={"X_pca": X[:, :2]})
    for key in (None, "X"):
        assert assert_reads(path, SPARSE, **({} if key is None else {"key": key})).reading.columns == tuple("uvwx")
    for key in ("counts", "layers/counts"):
        assert_reads(path, np.floor(SPARSE), key=key)
    for key in ("X_pca", "obsm/X_pca"):
        assert_reads(path, X[:, :2], key=key)
    assert_reads(path, SPARSE[:, 1:], drop="u")
    assert_refuses(path, "key: 'none', must be one of X, layers/counts, obsm/X_pca", key="none")
    assert_refuses(path, "key: 'raw', must be one of X", key="raw")


def test_raw_anndata(h5ad):
    path = h5ad(X=SPARSE, raw=True)
    assert_reads(path, SPARSE[:, :2])
    for key in ("raw", "raw/X"):
        assert assert_reads(path, SPARSE, key=key).reading.columns == tuple("uvwx")


def test_anndata_without_x(h5ad):
    path = h5ad(obsm={"latent": X})
    assert_refuses(path, "an AnnData without X, key must be one of obsm/latent")
    assert_reads(path, key="latent")
    assert_refuses(h5ad(), "an AnnData without X, must have X or another matrix")


@pytest.mark.parametrize("cut", [0, 1000, -100])
def test_damaged_anndata(h5ad, cut):
    path = h5ad(X=X)
    path.write_bytes(path.read_bytes()[:cut])
    assert_refuses(path, "not an? .h5ad file, or damaged")
