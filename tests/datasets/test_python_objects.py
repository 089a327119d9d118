"""Objects that people hold their samples in: each is read as numpy says, or refused in one line."""

from __future__ import annotations

import array as array_module
import collections
import datetime
import decimal
import fractions
import mmap
import types
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
)

import phasevae
from phasevae import InputError
from phasevae.datasets.streams import sample_stream
from phasevae.prediction.own_loss.rows import rows_of

N = 40
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(N, 6)) * [3, 2, 1.5, 1, 0.7, 0.5] + 2).astype(np.float32)
IMAGES = (RNG.normal(size=(N, 4, 5)) * np.linspace(1, 2, 5) + np.arange(4)[:, None]).astype(np.float32)
COLOURED = RNG.normal(size=(N, 3, 4, 5)).astype(np.float32)
BYTES = RNG.integers(0, 256, (N, 4, 5), dtype=np.uint8)
RGB = RNG.integers(0, 256, (N, 4, 5, 3), dtype=np.uint8)
COUNTS = RNG.poisson(RNG.gamma(1, 1, (N, 6)))  # about half zeros
T = torch.from_numpy(X)
LABELS = np.arange(N) % 3
FRAME = pd.DataFrame(X.astype(float), columns=list("abcdef"))


@dataclass
class Case:
    """An object, the samples that are in it, and what its reading says."""

    data: Any
    samples: NDArray  # [N, *shape]
    key: str | None = None
    columns: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    left_out: tuple[str, ...] | None = None
    whole: bool = False
    flat: bool = False  # whether the object keeps no shape


class Pairs(Dataset):
    """Samples with labels, by number."""

    def __init__(self, x, labels=LABELS):
        self.x, self.labels = x, labels

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.labels[i])


class Items(Dataset):
    """Items as they are, by number."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Streamed(IterableDataset):
    """Items as they are, in order."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Anew:
    """An object of no known class that gives items anew each time."""

    def __init__(self, items, **attributes):
        self.items = items
        vars(self).update(attributes)

    def __iter__(self):
        return iter(self.items)


class Convertible:
    """An array of another library: numpy can convert it."""

    def __init__(self, x):
        self.x = x

    def __array__(self, dtype=None, copy=None):
        return self.x


class Sliceable(Convertible):
    """An array of another library that gives slices."""

    def __init__(self, x):
        super().__init__(x)
        self.shape, self.dtype = x.shape, x.dtype

    def __getitem__(self, rows):
        return Convertible(self.x[rows])


def batches(x, size=15):
    return [x[start : start + size] for start in range(0, len(x), size)]


def pil(pixels, mode=None):
    return [Image.fromarray(image) if mode is None else Image.fromarray(image).convert(mode) for image in pixels]


def scattered(x):
    """A sparse tensor of three axes."""
    return torch.from_numpy(x * (x > 1)).to_sparse()


def structured(x, *more):
    fields = [(name, ">f4") for name in "abcdef"]
    return np.array([tuple(row) for row in x], dtype=[*fields, *more])


def annotated(x, layers=None, obsm=None):
    anndata = pytest.importorskip("anndata")
    result = anndata.AnnData(x)
    result.var_names = list("abcdef")
    for name, matrix in (layers or {}).items():
        result.layers[name] = matrix
    for name, matrix in (obsm or {}).items():
        result.obsm[name] = matrix
    return result


def with_raw(data):
    data.raw = data.copy()
    return data[:, :2].copy()


def backed(folder, x):
    anndata = pytest.importorskip("anndata")
    with pd.option_context("mode.string_storage", "python", "future.infer_string", False):
        annotated(x).write_h5ad(folder / "x.h5ad")
    return anndata.read_h5ad(folder / "x.h5ad", backed="r")


def in_hdf5(folder, **arrays):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / "x.h5", "w")
    for name, values in arrays.items():
        file[name] = values
    return file


def in_zarr(**arrays):
    group = pytest.importorskip("zarr").group()
    for name, values in arrays.items():
        group.create_array(name, data=values)
    return group


def hugging(columns, form=None):
    result = pytest.importorskip("datasets").Dataset.from_dict(columns)
    return result if form is None else result.with_format(form)


def xarray():
    return pytest.importorskip("xarray")


def saved(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)
    return np.load(folder / "x.npz")


def mapped(folder, x):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def nested(x):
    return x.tolist()


Named = collections.namedtuple("Named", "x y")
HALF, BRAIN = T.half(), T.bfloat16()
SCALED = BYTES / np.float32(255)
PAIR = ("the second of each pair",)

ACCEPTED = {
    # numpy
    "array": lambda f: Case(X, X),
    "array of images": lambda f: Case(IMAGES, IMAGES),
    "Fortran order": lambda f: Case(np.asfortranarray(IMAGES), IMAGES),
    "every second row": lambda f: Case(np.repeat(X, 2, 0)[::2], X),
    "big-endian": lambda f: Case(X.astype(">f4"), X),
    "float16": lambda f: Case(X.astype(np.float16), X.astype(np.float16)),
    "long double": lambda f: Case(X.astype(np.longdouble), X),
    "booleans": lambda f: Case(X > 2, X > 2),
    "bytes of pixels": lambda f: Case(BYTES, BYTES),
    "int64": lambda f: Case(COUNTS, COUNTS, whole=True),
    "uint32": lambda f: Case(COUNTS.astype(np.uint32), COUNTS),
    "matrix": lambda f: Case(np.asmatrix(X), X),
    "memory map": lambda f: Case(mapped(f, X), X),
    "path": lambda f: (mapped(f, X), Case(f / "x.npy", X))[1],
    "path as text": lambda f: (mapped(f, X), Case(str(f / "x.npy"), X))[1],
    "masked, nothing masked": lambda f: Case(np.ma.masked_array(X, mask=False), X),
    "masked, a mask without entries": lambda f: Case(np.ma.masked_array(X, mask=np.zeros_like(X, bool)), X),
    "masked below every value": lambda f: Case(np.ma.masked_less(X, -1e9), X),
    "structured array": lambda f: Case(structured(X), X, columns=tuple("abcdef")),
    "record array": lambda f: Case(structured(X).view(np.recarray), X, columns=tuple("abcdef")),
    "structured with a field of arrays": lambda f: Case(
        np.array([(x, 1) for x in X], dtype=[("x", "f4", (6,)), ("y", "i4")]), X, left_out=("column y",)
    ),
    "structured with a key": lambda f: Case(
        np.array([(x, 1) for x in X], dtype=[("deep", "f4", (6,)), ("y", "i4")]), X, key="deep"
    ),
    "objects that are numbers": lambda f: Case(X.astype(object), X),
    "objects that are arrays": lambda f: Case(np.array([*X, None], dtype=object)[:-1], X),
    "broadcast": lambda f: Case(np.broadcast_to(X[:, None], (N, 2, 6)), np.repeat(X[:, None], 2, 1)),
    "memory view": lambda f: Case(memoryview(X), X),
    # lists
    "list of lists": lambda f: Case(nested(X), X),
    "tuple of tuples": lambda f: Case(tuple(map(tuple, nested(X))), X),
    "list of tuples": lambda f: Case(list(map(tuple, nested(X))), X),
    "lists of lists of lists": lambda f: Case(nested(IMAGES), IMAGES),
    "lists of integers": lambda f: Case(COUNTS.tolist(), COUNTS, whole=True),
    "list of vectors": lambda f: Case(list(X), X),
    "list of tensors that are vectors": lambda f: Case(list(T), X),
    "tuple of vectors": lambda f: Case(tuple(X), X),
    "deque of vectors": lambda f: Case(collections.deque(X), X),
    "one batch in a list": lambda f: Case([X], X),
    "batches of unequal size": lambda f: Case(batches(X), X),
    "batches of unequal size, images": lambda f: Case(batches(IMAGES), IMAGES),
    "batches of coloured images": lambda f: Case(batches(COLOURED, 20), COLOURED),
    "batches of tensors": lambda f: Case(list(T.split(15)), X),
    "equal batches with labels": lambda f: Case(
        [(X[:20], LABELS[:20]), (X[20:], LABELS[20:])], X, left_out=PAIR
    ),
    "rows as matrices": lambda f: Case([row[None] for row in X], X),
    "images of one channel": lambda f: Case([image[None] for image in IMAGES], IMAGES[:, None]),
    "images with labels": lambda f: Case([(image, int(label)) for image, label in zip(IMAGES, LABELS, strict=True)], IMAGES),
    "coloured images with labels": lambda f: Case(
        [(image, label) for image, label in zip(COLOURED, LABELS, strict=True)], COLOURED, left_out=PAIR
    ),
    "images with names": lambda f: Case([(image, "cat") for image in IMAGES], IMAGES),
    "data set of images with masks": lambda f: Case(Items([(image, image > 1) for image in IMAGES]), IMAGES),
    "data set of images with one-hot labels": lambda f: Case(Items([(image, np.eye(3)[0]) for image in IMAGES]), IMAGES),
    "batches with one-hot labels": lambda f: Case([(x, np.eye(3)[: len(x)]) for x in batches(X, 3)], X),
    "samples and labels as a pair": lambda f: Case((X, LABELS), X),
    "list of tables": lambda f: Case([FRAME[:20], FRAME[20:]], X),
    "list of sparse matrices": lambda f: Case([scipy.sparse.csr_array(COUNTS[:20]), scipy.sparse.csr_array(COUNTS[20:])], COUNTS, whole=True),
    "list of mappings": lambda f: Case([{"image": x, "label": 1} for x in X], X, left_out=("key label of the items",)),
    "list of mappings with a key": lambda f: Case([{"spectrum": x, "wavelengths": x} for x in X], X, key="spectrum"),
    "list of images of Pillow": lambda f: Case(pil(BYTES), SCALED, changes=("divided by 255",)),
    "array interface": lambda f: Case(types.SimpleNamespace(__array_interface__=X.__array_interface__, kept=X), X),
    # mappings
    "mapping of one array": lambda f: Case({"spectra": X}, X),
    "mapping with a usual name": lambda f: Case({"x": X, "y": LABELS}, X, left_out=("entry y",)),
    "mapping with a key": lambda f: Case({"train": X, "test": X[:5]}, X, key="train"),
    "mapping in a mapping": lambda f: Case({"train": {"deep": X, "y": LABELS}, "test": {}}, X, key="train/deep"),
    "mapping of loaders": lambda f: Case({"train": DataLoader(Pairs(X)), "test": 0}, X, key="train"),
    "user dict": lambda f: Case(collections.UserDict(data=X), X),
    "read-only mapping": lambda f: Case(types.MappingProxyType({"data": X, "target": LABELS}), X),
    ".npz file": lambda f: Case(saved(f, x=X, y=LABELS), X),
    # scipy
    "csr array": lambda f: Case(scipy.sparse.csr_array(COUNTS), COUNTS, whole=True),
    "csc matrix": lambda f: Case(scipy.sparse.csc_matrix(COUNTS.astype(np.float32)), COUNTS),
    "coo array": lambda f: Case(scipy.sparse.coo_array(COUNTS), COUNTS, whole=True),
    "lil matrix": lambda f: Case(scipy.sparse.lil_matrix(COUNTS), COUNTS, whole=True),
    "dok array": lambda f: Case(scipy.sparse.dok_array(COUNTS), COUNTS, whole=True),
    "bsr array": lambda f: Case(scipy.sparse.bsr_array(COUNTS), COUNTS, whole=True),
    "dia array": lambda f: Case(scipy.sparse.dia_array(COUNTS), COUNTS, whole=True),
    "sparse booleans": lambda f: Case(scipy.sparse.csr_array(COUNTS > 0), COUNTS > 0),
    "sparse with duplicates": lambda f: Case(
        scipy.sparse.coo_array(
            (np.ones(2 * N), (np.repeat(np.arange(N), 2), np.repeat(LABELS, 2))), shape=(N, 3)
        ),
        2 * np.eye(3)[LABELS],
    ),
    "sparse of three axes": lambda f: Case(scipy.sparse.coo_array(BYTES * (BYTES > 99)), BYTES * (BYTES > 99)),
    # torch
    "tensor": lambda f: Case(T, X),
    "tensor with a gradient": lambda f: Case((T * 1).requires_grad_(), X),
    "parameter": lambda f: Case(torch.nn.Parameter(T), X),
    "half precision": lambda f: Case(HALF, HALF.numpy()),
    "bfloat16": lambda f: Case(BRAIN, BRAIN.float().numpy()),
    "float8": lambda f: Case(T.to(torch.float8_e4m3fn), T.to(torch.float8_e4m3fn).float().numpy()),
    "transposed tensor": lambda f: Case(T.T.contiguous().T, X),
    "integers in a tensor": lambda f: Case(torch.from_numpy(COUNTS), COUNTS, whole=True),
    "imaginary part": lambda f: Case(torch.complex(T, T).conj().imag, -X),
    "quantised tensor": lambda f: Case(
        (quantised := torch.quantize_per_tensor(T, 0.1, 0, torch.qint32)), quantised.dequantize().numpy()
    ),
    "sparse COO tensor": lambda f: Case(torch.from_numpy(COUNTS).to_sparse(), COUNTS, whole=True),
    "sparse CSR tensor": lambda f: Case(torch.from_numpy(COUNTS).to_sparse_csr(), COUNTS, whole=True),
    "sparse CSC tensor": lambda f: Case(torch.from_numpy(COUNTS).to_sparse_csc(), COUNTS, whole=True),
    "sparse bfloat16": lambda f: Case(BRAIN.to_sparse(), BRAIN.float().numpy()),
    "sparse tensor of images": lambda f: Case(scattered(IMAGES), IMAGES * (IMAGES > 1)),
    "hybrid sparse tensor": lambda f: Case(torch.from_numpy(IMAGES).to_sparse(2), IMAGES),
    # data sets and loaders of torch
    "TensorDataset": lambda f: Case(TensorDataset(T, torch.from_numpy(LABELS)), X, left_out=PAIR),
    "TensorDataset of images": lambda f: Case(TensorDataset(torch.from_numpy(IMAGES)), IMAGES),
    "TensorDataset of coloured images": lambda f: Case(TensorDataset(torch.from_numpy(COLOURED)), COLOURED),
    "Subset": lambda f: Case(Subset(Pairs(X), [3, 1, 4]), X[[3, 1, 4]]),
    "ConcatDataset": lambda f: Case(ConcatDataset([Pairs(X[:7]), Pairs(X[7:])]), X),
    "StackDataset": lambda f: Case(StackDataset(image=T, label=torch.from_numpy(LABELS)), X),
    "items that are vectors in lists": lambda f: Case(Items(nested(X)), X),
    "items that are images in lists": lambda f: Case(Items(nested(IMAGES)), IMAGES),
    "items ((x, c), y)": lambda f: Case(Items([((x, 1), 0) for x in X]), X),
    "items that are mappings": lambda f: Case(Items([{"inputs": x, "y": 0} for x in X]), X),
    "items ({x, c}, y) with a key": lambda f: Case(Items([({"deep": x, "c": 0}, 0) for x in X]), X, key="deep"),
    "items that are named tuples": lambda f: Case(Items([Named(x, 0) for x in X]), X),
    "IterableDataset of vectors": lambda f: Case(Streamed(X), X),
    "IterableDataset of images": lambda f: Case(Streamed(IMAGES), IMAGES),
    "IterableDataset of coloured images": lambda f: Case(Streamed(COLOURED), COLOURED),
    "IterableDataset of pairs": lambda f: Case(Streamed([(image, 1) for image in IMAGES]), IMAGES),
    "ChainDataset": lambda f: Case(ChainDataset([Streamed(IMAGES[:9]), Streamed(IMAGES[9:])]), IMAGES),
    "DataLoader": lambda f: Case(DataLoader(Pairs(X), batch_size=16), X, left_out=PAIR),
    "DataLoader of equal batches": lambda f: Case(DataLoader(Pairs(IMAGES), batch_size=20), IMAGES),
    "DataLoader without labels": lambda f: Case(DataLoader(TensorDataset(T), batch_size=8), X),
    "DataLoader of an IterableDataset": lambda f: Case(DataLoader(Streamed(IMAGES), batch_size=20), IMAGES),
    "DataLoader with a worker": lambda f: Case(
        DataLoader(Pairs(X), batch_size=16, num_workers=1, persistent_workers=True), X
    ),
    "DataLoader with a batch sampler": lambda f: Case(
        DataLoader(Pairs(IMAGES), batch_sampler=BatchSampler(range(N), 20, False)), IMAGES
    ),
    "DataLoader that drops the last": lambda f: Case(DataLoader(Pairs(X), batch_size=16, drop_last=True), X[:32]),
    "DataLoader of mappings": lambda f: Case(
        DataLoader(Items([{"pixel_values": x, "label": 0} for x in X]), batch_size=16), X
    ),
    "DataLoader ((x, c), y)": lambda f: Case(DataLoader(Items([((x, 1.0), 0) for x in X]), batch_size=16), X),
    "DataLoader that collates nothing": lambda f: Case(
        DataLoader(Pairs(IMAGES), batch_size=16, collate_fn=list), IMAGES
    ),
    "DataLoader that collates no tensors": lambda f: Case(
        DataLoader(TensorDataset(torch.from_numpy(COLOURED)), batch_size=16, collate_fn=lambda items: [x for x, in items]),
        COLOURED,
    ),
    "DataLoader of images of Pillow": lambda f: Case(
        DataLoader(Pairs(pil(BYTES)), batch_size=16, collate_fn=lambda pairs: [image for image, _ in pairs]), SCALED
    ),
    "batch size None, vectors": lambda f: Case(DataLoader(Pairs(X), batch_size=None), X),
    "batch size None, images with labels": lambda f: Case(DataLoader(Pairs(IMAGES), batch_size=None), IMAGES),
    "batch size None, batches with labels": lambda f: Case(
        DataLoader(Streamed([(T[:20], torch.ones(20)), (T[20:], torch.ones(20))]), batch_size=None), X
    ),
    "batch size None, batches of unequal size": lambda f: Case(DataLoader(Streamed(batches(X)), batch_size=None), X),
    # other iterables
    "iterable of batches": lambda f: Case(Anew(batches(X)), X),
    "iterable of equal batches that says so": lambda f: Case(Anew(batches(X, 20), batch_size=20), X),
    "iterable of vectors": lambda f: Case(Anew(list(X)), X),
    "iterable of batches of one": lambda f: Case(Anew([image[None] for image in IMAGES]), IMAGES[:, None]),
    "values of a mapping": lambda f: Case({"a": X[:9], "b": X[9:]}.values(), X),
    "stream": lambda f: Case(sample_stream(IMAGES, most_rows=7), IMAGES),
    # images of Pillow
    "data set of images of Pillow": lambda f: Case(Pairs(pil(BYTES)), SCALED, changes=("divided by 255",)),
    "coloured images of Pillow": lambda f: Case(Pairs(pil(RGB)), RGB / np.float32(255)),
    "images with transparency": lambda f: Case(Pairs(pil(RGB, "RGBA")), RGB / np.float32(255)),
    "grey images with transparency": lambda f: Case(Pairs(pil(BYTES, "LA")), SCALED),
    "black and white images": lambda f: Case(Pairs(pil(BYTES > 99)), (BYTES > 99).astype(float)),
    "images of 16 bits": lambda f: Case(
        Pairs(pil(BYTES * np.uint16(257))), BYTES * np.uint16(257) / np.float32(65535), changes=("divided by 65535",)
    ),
    "images of floats": lambda f: Case(Pairs(pil(IMAGES)), IMAGES, changes=()),
    # other arrays
    "convertible": lambda f: Case(Convertible(X), X),
    "convertible with slices": lambda f: Case(Sliceable(IMAGES), IMAGES),
    "list of convertibles": lambda f: Case([Convertible(batch) for batch in batches(X)], X),
    # pandas
    "table": lambda f: Case(FRAME, X, columns=tuple("abcdef")),
    "table without names": lambda f: Case(pd.DataFrame(X), X),
    "table with an index": lambda f: Case(FRAME.set_index(pd.Index(range(5, 5 + N), name="id")), X),
    "table of nullable numbers": lambda f: Case(FRAME.astype("Float64"), X),
    "table of Arrow numbers": lambda f: Case(FRAME.astype("float32[pyarrow]"), X),
    "table with truth values": lambda f: Case(FRAME.assign(f=FRAME.f > 2), np.c_[X[:, :5], X[:, 5] > 2]),
    "table with levels of names": lambda f: Case(
        pd.DataFrame(X, columns=pd.MultiIndex.from_product([list("ab"), list("xyz")])), X
    ),
    "table with a column of arrays": lambda f: Case(pd.DataFrame({"v": list(X), "name": "cat"}), X, key="v"),
    # polars, pyarrow, xarray, AnnData, HDF5, zarr, HuggingFace
    "polars": lambda f: Case(pytest.importorskip("polars").DataFrame(nested(X), list("abcdef"), orient="row"), X, columns=tuple("abcdef")),
    "lazy polars": lambda f: Case(pytest.importorskip("polars").DataFrame(nested(X), orient="row").lazy(), X),
    "Arrow table": lambda f: Case(pytest.importorskip("pyarrow").Table.from_pandas(FRAME), X, columns=tuple("abcdef")),
    "Arrow batch": lambda f: Case(pytest.importorskip("pyarrow").RecordBatch.from_pandas(FRAME), X),
    "list of Arrow batches": lambda f: Case(pytest.importorskip("pyarrow").Table.from_pandas(FRAME).to_batches(16), X),
    "DataArray": lambda f: Case(xarray().DataArray(IMAGES, dims=("time", "lat", "lon")), IMAGES),
    "xarray data set of one variable": lambda f: Case(xarray().Dataset({"t2m": (("t", "y", "x"), IMAGES)}), IMAGES),
    "xarray data set with a key": lambda f: Case(
        xarray().Dataset({"a": (("t", "y", "x"), IMAGES), "b": (("t",), LABELS)}), IMAGES, key="a", left_out=("entry b",)
    ),
    "AnnData": lambda f: Case(annotated(X), X, columns=tuple("abcdef")),
    "sparse AnnData": lambda f: Case(annotated(scipy.sparse.csr_matrix(COUNTS.astype(np.float32))), COUNTS),
    "a layer": lambda f: Case(annotated(X, {"counts": COUNTS}), COUNTS, key="layers/counts", columns=tuple("abcdef"), whole=True),
    "a layer by its name": lambda f: Case(annotated(X, {"counts": COUNTS}), COUNTS, key="counts", whole=True),
    "an embedding": lambda f: Case(annotated(COUNTS, obsm={"X_pca": X[:, :3]}), X[:, :3], key="obsm/X_pca", columns=()),
    "an embedding by its name": lambda f: Case(annotated(COUNTS, obsm={"X_pca": X[:, :3]}), X[:, :3], key="X_pca"),
    "the raw matrix": lambda f: Case(with_raw(annotated(X)), X, key="raw", columns=tuple("abcdef")),
    "a view of AnnData": lambda f: Case(annotated(X)[5:25, ["b", "a"]], X[5:25, [1, 0]], columns=("b", "a")),
    "AnnData on disk": lambda f: Case(backed(f, X), X),
    "sparse AnnData on disk": lambda f: Case(backed(f, scipy.sparse.csr_matrix(COUNTS.astype(np.float32))), COUNTS),
    "HDF5 array": lambda f: Case(in_hdf5(f, x=IMAGES)["x"], IMAGES),
    "HDF5 file of one array": lambda f: Case(in_hdf5(f, spectra=X), X),
    "HDF5 file with a key": lambda f: Case(in_hdf5(f, **{"a/b": X, "c": X}), X, key="a/b"),
    "zarr array": lambda f: Case(in_zarr(x=IMAGES)["x"], IMAGES),
    "zarr group": lambda f: Case(in_zarr(x=X, y=LABELS), X),
    "HuggingFace images": lambda f: Case(hugging({"image": pil(BYTES), "label": LABELS}), SCALED),
    "HuggingFace vectors with a key": lambda f: Case(hugging({"embedding": X, "text": ["a"] * N}), X, key="embedding"),
    "HuggingFace as numpy": lambda f: Case(hugging({"x": IMAGES, "label": LABELS}, "numpy"), IMAGES),
    "HuggingFace as torch": lambda f: Case(hugging({"x": X, "label": LABELS}, "torch"), X),
    "HuggingFace columns": lambda f: Case(hugging(FRAME.to_dict("list")), X, columns=tuple("abcdef")),
    "HuggingFace column": lambda f: Case(hugging({"image": IMAGES, "label": LABELS})["image"], IMAGES),
    "HuggingFace stream": lambda f: Case(hugging({"x": IMAGES, "label": LABELS}).to_iterable_dataset(), IMAGES),
    "HuggingFace sets by name": lambda f: Case(
        pytest.importorskip("datasets").DatasetDict(train=hugging({"x": X}), test=hugging({"x": X[:3]})), X, key="train"
    ),
}  # fmt: skip


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
    "list of tables": [FRAME.reset_index()[:20], FRAME.reset_index()[20:]],
}


@pytest.mark.parametrize("name", WITHOUT_IDS)
def test_ids_are_refused_dropped_or_kept(name):
    data = WITHOUT_IDS[name]
    with pytest.raises(InputError, match="column .* must be left out"):
        sample_stream(data)
    expected = np.linalg.eigvalsh(np.cov(X.T.astype(float), bias=True))[::-1]
    actual = phasevae.compute_spectrum(data, drop=[0])
    np.testing.assert_allclose(actual.eigenvalues, expected, rtol=1e-6)
    assert phasevae.compute_spectrum(data, drop=[]).dimension == 7
    with pytest.raises(InputError, match="drop: 'z', must be"):
        sample_stream(data, drop="z")


@pytest.mark.parametrize("data", [IMAGES, list(X), Pairs(X), sample_stream(X)])
def test_columns_that_are_not_there(data):
    with pytest.raises(InputError, match="drop: .*, must be left out for"):
        sample_stream(data, drop=[0])


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


class Failing(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        if i == 7:
            raise KeyError("image 7 is gone")
        return X[i], 0


class NoLength(Dataset):
    def __getitem__(self, i):
        return X[i]


class Once:
    """It looks as if it could be iterated again."""

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        yield from self.items


class Shrinking:
    """Fewer items each time."""

    batch_size = 7

    def __init__(self):
        self.size = 5

    def __iter__(self):
        self.size -= 1
        return iter(batches(X, 7)[: self.size])


class BadArray:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("is on another device\nand more")


class LateFailure:
    def __iter__(self):
        yield X[:9]
        yield X[9:12]
        raise OSError("disk is gone")


def replaced(value, row=3, column=2):
    result = X.copy()
    result[row, column] = value
    return result


REFUSED = {
    "None": (lambda f: None, "data: None, must be an array"),
    "whole number": (lambda f: 5, "a int, must be an array"),
    "number": (lambda f: 5.5, "a float, must be"),
    "complex number": (lambda f: 5j, "a complex, must be"),
    "truth value": (lambda f: True, "a bool, must be"),
    "number of numpy": (lambda f: np.float32(5), "a float32, must be"),
    "fraction": (lambda f: fractions.Fraction(1, 2), "a Fraction, must be"),
    "decimal": (lambda f: decimal.Decimal(1), "a Decimal, must be"),
    "text that is no path": (lambda f: "no such data", "no such data"),
    "empty text": (lambda f: "", "must be"),
    "text with a zero byte": (lambda f: "a\0b", "must be|no such"),
    "bytes": (lambda f: b"abc", r"shape \(3,\)"),
    "byte array": (lambda f: bytearray(b"abc"), r"shape \(3,\)"),
    "array of the standard library": (lambda f: array_module.array("d", [1, 2]), r"shape \(2,\)"),
    "memory map of bytes": (lambda f: mmap.mmap(-1, 64), "shape|number"),
    "date": (lambda f: datetime.date(2020, 1, 1), "a date, must be"),
    "a function": (lambda f: lambda: X, "a function, must be"),
    "a class": (lambda f: Pairs, "the class Pairs, must be"),
    "a module": (lambda f: np, "a module, must be"),
    "an exception": (lambda f: ValueError("a"), "a ValueError, must be"),
    "ellipsis": (lambda f: ..., "a ellipsis, must be"),
    "object": (lambda f: object(), "a object, must be"),
    "a network": (lambda f: torch.nn.Linear(2, 2), "a Linear, must be"),
    "layers": (lambda f: torch.nn.Sequential(torch.nn.Linear(2, 2)), "sample 0: .*must be real numbers"),
    "a spectrum": (lambda f: phasevae.compute_spectrum(X), "a Spectrum, must be"),
    "a device": (lambda f: torch.device("cpu"), "a device, must be"),
    "generator": (lambda f: (row for row in X), "a generator, must be .* anew each time"),
    "iterator": (lambda f: iter([X]), "a list_iterator, must be .* anew each time"),
    "map": (lambda f: map(np.sqrt, [X]), "a map, must be .* anew each time"),
    "open file": (lambda f: (f / "x").open("w+"), "anew each time"),
    "iterator of a loader": (lambda f: iter(DataLoader(Pairs(X))), "anew each time"),
    "set": (lambda f: {1.0, 2.0}, "a set, must be"),
    "frozen set of tuples": (lambda f: frozenset(map(tuple, X)), "a frozenset, must be"),
    "read only once": (lambda f: Once(batches(X)), "gave 3 items at first and 0 when read again"),
    "read only once, of images": (lambda f: Once(batches(COLOURED)), "gave 3 batches at first and 0 when read again"),
    "fewer items each time": (lambda f: Shrinking(), "gave 4 batches at first and 3 when read again"),
    "range": (lambda f: range(9), "item 0: shape \\(\\), must have at least one axis"),
    "random sampler": (lambda f: torch.utils.data.RandomSampler(X), "must have at least one axis"),
    # arrays
    "0-d array": (lambda f: np.array(5.0), r"shape \(\), must be \[samples, features\]"),
    "1-d array": (lambda f: np.ones(5), r"shape \(5,\), must be \[samples, features\]"),
    "no rows": (lambda f: np.ones((0, 5)), r"shape \(0, 5\)"),
    "no features": (lambda f: np.ones((5, 0)), r"shape \(5, 0\)"),
    "one sample": (lambda f: X[:1], "at least 2 samples"),
    "constant": (lambda f: np.ones((5, 2)), "every feature is constant"),
    "NaN": (lambda f: replaced(np.nan), "value nan at row 3, column 2"),
    "infinity": (lambda f: replaced(-np.inf), "value -inf at row 3, column 2"),
    "huge": (lambda f: replaced(0).astype(float) + 1e200, "at row 0, column 0 .* must be finite"),
    "texts": (lambda f: np.array([["a", "b"]]), "type <U1, must be real numbers"),
    "numbers as texts": (lambda f: X.astype(str), "type <U.*, must be real numbers"),
    "bytes of texts": (lambda f: np.array([[b"a", b"b"]]), "type .S1, must be real numbers"),
    "new texts of numpy": (lambda f: np.array([["a"]], dtype=np.dtypes.StringDType()), "must be real numbers"),
    "complex": (lambda f: X * 1j, "type complex64, must be real numbers"),
    "dates": (lambda f: X.astype("M8[s]"), r"type datetime64\[s\], must be real numbers"),
    "durations": (lambda f: X.astype("m8[s]"), r"type timedelta64\[s\], must be real numbers"),
    "objects": (lambda f: np.array([[object(), 1]], dtype=object), "holds a object at row 0"),
    "objects with a text": (lambda f: np.array([[1, 2], [3, "x"]], dtype=object), "holds 'x' at row 1"),
    "objects with None": (lambda f: np.array([[1, 2], [3, None]], dtype=object), "value nan at row 1, column 1"),
    "objects with a complex number": (lambda f: np.array([[1, 2], [3, 4j]], dtype=object), "holds a complex at row 1"),
    "a mapping in an array": (lambda f: np.array({"x": X}, dtype=object), "holds Python objects|shape"),
    "arrays of unequal length": (lambda f: np.array([X[0], X[0, :3]], dtype=object), "item 1 is a vector of 3, must be a vector of 6"),
    "masked": (lambda f: np.ma.masked_greater(replaced(99), 98), "1 of 240 values are masked, the first at row 3, column 2"),
    "masked images": (lambda f: np.ma.masked_greater(IMAGES, 1), "values are masked, the first at row 0"),
    "everything masked": (lambda f: np.ma.masked_all((3, 2)), "6 of 6 values are masked"),
    "masked records": (lambda f: np.ma.array(structured(X), mask=[i == 2 for i in range(N)]), "6 of 240 values are masked, the first at row 2"),
    "masked batches": (lambda f: [X[:9], np.ma.masked_greater(X[9:], 2)], "item 1: .* values are masked"),
    "records with a text": (lambda f: np.array([(1.0, "a"), (2.0, "b")], dtype=[("x", "f4"), ("name", "U3")]), "column 'name'"),
    "records of two axes": (lambda f: structured(X).reshape(2, -1), "must have one axis"),
    "records with a wrong key": (lambda f: structured(X), "key 'z', must be one of a, b, c, d, e, f", "z"),
    "broken __array__": (lambda f: BadArray(), "a BadArray that is no array .*is on another device\\)"),
    # lists
    "empty list": (lambda f: [], "has no items"),
    "empty tuple": (lambda f: (), "has no items"),
    "lists in a list": (lambda f: [[], []], "empty"),
    "list of numbers": (lambda f: [1.0, 2.0], r"shape \(2,\), must be"),
    "list of tensors without axes": (lambda f: [torch.tensor(1.0), torch.tensor(2.0)], "must have at least one axis"),
    "list of None": (lambda f: [None, None], "item 0: holds Python objects"),
    "list of texts": (lambda f: ["a", "b"], "type <U1, must be real numbers"),
    "ragged list": (lambda f: [[1, 2, 3], [1, 2]], "item 1 has 2 values, must have 3 values as the first"),
    "ragged list with a number": (lambda f: [[1, 2, 3], 4], "item 1 has one value, must have 3 values"),
    "ragged deep list": (lambda f: [[[1, 2], [3]], [[1, 2], [3, 4]]], "unequal length"),
    "list of lists of texts": (lambda f: [["a", "b"], ["c", "d"]], "must be real numbers"),
    "numbers and texts": (lambda f: [[1, "a"], [2, "b"]], "must be real numbers"),
    "vectors of unequal length": (lambda f: [X[0], X[0, :3]], "sample 1 is a vector of 3, must be a vector of 6 as the first"),
    "batches of unequal width": (lambda f: [X[:9], X[9:, :4]], "item 1 has 4 features, must have 6"),
    "a batch and a vector": (lambda f: [X[:9], X[9]], "item 1 has 1 features, must have 6|item 1"),
    "list of images": (lambda f: list(IMAGES), r"40 items of 4 x 5, each may be a batch or one sample: give np.stack\(data\)"),
    "list of square images": (lambda f: list(IMAGES[:, :, :4]), "40 items of 4 x 4, each may be"),
    "list of coloured images": (lambda f: list(COLOURED), "40 items of 3 x 4 x 5, each may be"),
    "list of tensors that are images": (lambda f: list(torch.from_numpy(COLOURED)), "each may be a batch or one sample"),
    "list of equal batches": (lambda f: batches(X, 20), r"np.concatenate\(data\) if each is a batch"),
    "images with masks": (lambda f: [(image, image > 1) for image in np.repeat(IMAGES, 2, 1)], "40 items of 8 x 5, each may be"),
    "images with one-hot labels": (lambda f: [(image, np.eye(3)[0]) for image in IMAGES], "each may be a batch or one"),
    "pair of equal arrays": (lambda f: (X, X), "2 items of 40 x 6, each may be"),
    "iterable of images": (lambda f: Anew(list(IMAGES)), r"give each as x\[None\] if it is a sample"),
    "images of unequal size": (lambda f: Pairs(pil([BYTES[0], BYTES[1, :3]]), [0, 0]), "sample 1 is 3 x 5, must be 4 x 5 as the first"),
    "grey and coloured images": (lambda f: Pairs(pil([BYTES[0], RGB[0]]), [0, 0]), "sample 1 is 4 x 5 x 3, must be 4 x 5"),
    "one image": (lambda f: pil(BYTES)[0], "data: one image, must be several"),
    # mappings
    "empty mapping": (lambda f: {}, "an empty dict, must hold samples"),
    "mapping of numbers": (lambda f: {"a": 1, "b": 2}, "key must be one of a, b"),
    "mapping of one number": (lambda f: {"a": 1}, r"data\['a'\]: a int, must be"),
    "mapping with several usual names": (lambda f: {"data": X, "images": IMAGES}, r"key must be one of data, images \(data, images are usual\)"),
    "mapping with unusual names": (lambda f: {"train": X, "test": X}, "key must be one of train, test"),
    "mapping with a wrong key": (lambda f: {"train": X}, "key 'test', must be one of train", "test"),
    "mapping of columns": (lambda f: {"x": [1.0, 2.0], "y": [3.0, 4.0]}, r"data\['x'\]: shape \(2,\)"),
    "a key for an array": (lambda f: X, "key: 'x', must be left out for a ndarray", "x"),
    "a key for vectors": (lambda f: list(X), "key: 'x', must be left out", "x"),
    "a key that is a number": (lambda f: {"x": X}, "key: 3, must be a name", 3),
    "mappings without a usual name": (lambda f: [{"a": X, "b": X}], "item 0: .* key must be one of a, b"),
    "mappings with several usual names": (lambda f: Items([{"image": x, "x": x} for x in X]), r"\(image, x are usual\)"),
    "mappings that differ": (lambda f: Items([{"x": X[0], "y": 0}, {"y": 0, "z": 0}]), "sample 1: .* key must be one of y, z"),
    # sparse
    "sparse of one axis": (lambda f: scipy.sparse.coo_array(np.ones(5)), r"shape \(5,\)"),
    "sparse and complex": (lambda f: scipy.sparse.csr_array(COUNTS * 1j), "complex128, must be real numbers"),
    "sparse with NaN": (lambda f: scipy.sparse.csr_array(replaced(np.nan)), "value nan at row 3, column 2"),
    "empty sparse": (lambda f: scipy.sparse.csr_array((0, 5)), r"shape \(0, 5\)"),
    # torch
    "0-d tensor": (lambda f: torch.tensor(5.0), r"shape \(\)"),
    "1-d tensor": (lambda f: torch.ones(5), r"shape \(5,\)"),
    "complex tensor": (lambda f: T * 1j, "complex64, must be real numbers"),
    "tensor without numbers": (lambda f: T.to("meta"), "a tensor without numbers"),
    "nested tensor": (lambda f: torch.nested.nested_tensor([T[:2], T[:3]], layout=torch.jagged), "a nested tensor, must be"),
    "data set without a length": (lambda f: NoLength(), "a NoLength, must be"),
    "empty data set": (lambda f: Items([]), "has no samples"),
    "data set of numbers": (lambda f: TensorDataset(torch.ones(5)), "sample 0: shape \\(\\), must have"),
    "data set of texts": (lambda f: Items(["a", "b"]), "sample 0: .* must be real numbers"),
    "data set of None": (lambda f: Items([None]), "sample 0: holds Python objects"),
    "data set of empty tuples": (lambda f: Items([()]), "sample 0: an empty tuple"),
    "data set of batches": (lambda f: Items([(X, LABELS), (X, LABELS)]), "40 x 6 with 40 labels looks like a batch"),
    "stream of batches": (lambda f: Streamed([(X, LABELS), (X, LABELS)]), "looks like a batch"),
    "stream of unequal batches": (lambda f: Streamed(batches(X)), "sample 2 is 10 x 6, must be 15 x 6 as the first"),
    "data set with an error": (lambda f: Failing(), "sample 7 cannot be read .KeyError: 'image 7 is gone'"),
    "loader with an error": (lambda f: DataLoader(Failing(), batch_size=4), "batch 1 cannot be read .KeyError"),
    "worker with an error": (lambda f: DataLoader(Failing(), batch_size=4, num_workers=1), "batch 1 cannot be read .KeyError: 'image 7 is gone'"),
    "items that do not stack": (lambda f: DataLoader(Items([X[0], X[0, :3]]), batch_size=2), "batch 0 cannot be read .RuntimeError"),
    "iterable with an error": (lambda f: LateFailure(), "item 2 cannot be read .OSError: disk is gone"),
    "batch size None, images": (lambda f: DataLoader(TensorDataset(torch.from_numpy(IMAGES)), batch_size=None), "each may be a batch or one sample: give it a batch_size"),
    "loader of numbers": (lambda f: DataLoader(TensorDataset(torch.ones(5)), batch_size=2), r"batch 0: shape \(2,\), must be"),
    "loader of texts": (lambda f: DataLoader(Items(["a", "b"]), batch_size=2), "must be real numbers"),
    "empty loader": (lambda f: DataLoader(Items([]), batch_size=2), "has no batches"),
    # tables
    "series": (lambda f: FRAME["a"], r"shape \(40,\)"),
    "table with a text": (lambda f: FRAME.assign(name="cat"), "column 'name'"),
    "table with dates": (lambda f: FRAME.assign(day=pd.Timestamp("2020-01-01")), "column 'day'"),
    "table with categories": (lambda f: FRAME.assign(kind=pd.Categorical(["a"] * N)), "column 'kind'"),
    "table with complex numbers": (lambda f: FRAME.assign(c=1j), "column 'c'"),
    "table with a gap": (lambda f: FRAME.astype("Float64").mask(FRAME.max().max() - 1e-9 < FRAME), "value nan at row"),
    "empty table": (lambda f: pd.DataFrame(), "shape|no rows"),
    "table without rows": (lambda f: FRAME[:0], "shape|no rows"),
    "grouped table": (lambda f: FRAME.groupby("a"), "."),
    "polars with a text": (lambda f: pytest.importorskip("polars").DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), "column 'b'"),
    "polars series": (lambda f: pytest.importorskip("polars").Series([1.0, 2.0]), r"shape \(2,\)"),
    "Arrow array": (lambda f: pytest.importorskip("pyarrow").array([1.0, 2.0]), "shape|must"),
    # others
    "AnnData without X": (lambda f: pytest.importorskip("anndata").AnnData(obs=FRAME.rename(index=str)), "an AnnData without X, key must be an AnnData with a matrix"),
    "AnnData with a wrong key": (lambda f: annotated(X, {"counts": COUNTS}), "key: 'fpkm', must be one of X, layers/counts", "fpkm"),
    "xarray of one axis": (lambda f: xarray().DataArray(X[0]), r"shape \(6,\)"),
    "xarray data set of several": (lambda f: xarray().Dataset({"u": (("t", "y"), X), "v": (("t", "y"), X)}), "key must be one of u, v"),
    "closed HDF5 file": (lambda f: (file := in_hdf5(f, x=X), array := file["x"], file.close(), array)[3], "."),
    "HDF5 file of several": (lambda f: in_hdf5(f, u=X, v=X), "key must be one of u, v"),
    "HuggingFace texts": (lambda f: hugging({"text": ["a", "b"]}), "must hold numbers|must be real numbers"),
    "HuggingFace of several": (lambda f: hugging({"u": X, "v": X}), "key must be one of u, v"),
}  # fmt: skip


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


def test_at_least_136_objects():
    assert len(ACCEPTED) + len(REFUSED) >= 136


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
