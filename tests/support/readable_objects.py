"""Objects that people hold their samples in, with the samples as numpy sees them."""

from __future__ import annotations

import collections
import types

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from object_samples import (
    BRAIN,
    BYTES,
    COLOURED,
    COUNTS,
    FRAME,
    HALF,
    IMAGES,
    LABELS,
    PAIR,
    RGB,
    SCALED,
    Anew,
    Case,
    Convertible,
    Items,
    N,
    Named,
    Pairs,
    Sliceable,
    Streamed,
    T,
    X,
    annotated,
    backed,
    batches,
    hugging,
    in_hdf5,
    in_zarr,
    mapped,
    nested,
    pil,
    saved,
    scattered,
    structured,
    with_raw,
    xarray,
)
from torch.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    StackDataset,
    Subset,
    TensorDataset,
)

from phasevae.datasets.streams import sample_stream

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
    "equal batches with labels": lambda f: Case([(X[:20], LABELS[:20]), (X[20:], LABELS[20:])], X, left_out=PAIR),
    "two long batches": lambda f: Case(batches(X, 20), X),
    "rows as matrices": lambda f: Case([row[None] for row in X], X),
    "images of one channel": lambda f: Case([image[None] for image in IMAGES], IMAGES[:, None]),
    "images with labels": lambda f: Case(
        [(image, int(label)) for image, label in zip(IMAGES, LABELS, strict=True)], IMAGES
    ),
    "coloured images with labels": lambda f: Case(
        [(image, label) for image, label in zip(COLOURED, LABELS, strict=True)], COLOURED, left_out=PAIR
    ),
    "images with names": lambda f: Case([(image, "cat") for image in IMAGES], IMAGES),
    "data set of images with masks": lambda f: Case(Items([(image, image > 1) for image in IMAGES]), IMAGES),
    "data set of images with one-hot labels": lambda f: Case(
        Items([(image, np.eye(3)[0]) for image in IMAGES]), IMAGES
    ),
    "data set of images with as many rows as classes": lambda f: Case(
        Items([(image, np.eye(8)[0]) for image in np.repeat(IMAGES, 2, 1)]), np.repeat(IMAGES, 2, 1)
    ),
    "unequal batches with labels": lambda f: Case(
        list(zip(batches(X), batches(LABELS), strict=True)), X, left_out=PAIR
    ),
    "equal batches with labels, from a loader of its own": lambda f: Case(
        Anew(list(zip(batches(X, 10), batches(LABELS, 10), strict=True))), X, left_out=PAIR
    ),
    "batches with one-hot labels": lambda f: Case([(x, np.eye(3)[: len(x)]) for x in batches(X, 3)], X),
    "samples and labels as a pair": lambda f: Case((X, LABELS), X),
    "list of tables": lambda f: Case([FRAME[:20], FRAME[20:]], X),
    "list of sparse matrices": lambda f: Case(
        [scipy.sparse.csr_array(COUNTS[:20]), scipy.sparse.csr_array(COUNTS[20:])], COUNTS, whole=True
    ),
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
        scipy.sparse.coo_array((np.ones(2 * N), (np.repeat(np.arange(N), 2), np.repeat(LABELS, 2))), shape=(N, 3)),
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
        DataLoader(
            TensorDataset(torch.from_numpy(COLOURED)), batch_size=16, collate_fn=lambda items: [x for (x,) in items]
        ),
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
    "polars": lambda f: Case(
        pytest.importorskip("polars").DataFrame(nested(X), list("abcdef"), orient="row"), X, columns=tuple("abcdef")
    ),
    "lazy polars": lambda f: Case(pytest.importorskip("polars").DataFrame(nested(X), orient="row").lazy(), X),
    "Arrow table": lambda f: Case(pytest.importorskip("pyarrow").Table.from_pandas(FRAME), X, columns=tuple("abcdef")),
    "Arrow batch": lambda f: Case(pytest.importorskip("pyarrow").RecordBatch.from_pandas(FRAME), X),
    "list of Arrow batches": lambda f: Case(pytest.importorskip("pyarrow").Table.from_pandas(FRAME).to_batches(16), X),
    "DataArray": lambda f: Case(xarray().DataArray(IMAGES, dims=("time", "lat", "lon")), IMAGES),
    "xarray data set of one variable": lambda f: Case(xarray().Dataset({"t2m": (("t", "y", "x"), IMAGES)}), IMAGES),
    "xarray data set with a key": lambda f: Case(
        xarray().Dataset({"a": (("t", "y", "x"), IMAGES), "b": (("t",), LABELS)}),
        IMAGES,
        key="a",
        left_out=("entry b",),
    ),
    "AnnData": lambda f: Case(annotated(X), X, columns=tuple("abcdef")),
    "sparse AnnData": lambda f: Case(annotated(scipy.sparse.csr_matrix(COUNTS.astype(np.float32))), COUNTS),
    "a layer": lambda f: Case(
        annotated(X, {"counts": COUNTS}), COUNTS, key="layers/counts", columns=tuple("abcdef"), whole=True
    ),
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
}
