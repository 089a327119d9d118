"""Objects that hold no samples, or nobody can say which, with words of the line that refuses them."""

from __future__ import annotations

import array as array_module
import datetime
import decimal
import fractions
import mmap

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from object_samples import (
    BYTES,
    COLOURED,
    COUNTS,
    FRAME,
    IMAGES,
    LABELS,
    RGB,
    Anew,
    Items,
    N,
    Pairs,
    Streamed,
    T,
    X,
    annotated,
    batches,
    hugging,
    in_hdf5,
    pil,
    structured,
    xarray,
)
from torch.utils.data import (
    DataLoader,
    Dataset,
    TensorDataset,
)

import phasevae


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
    "arrays of unequal length": (
        lambda f: np.array([X[0], X[0, :3]], dtype=object),
        "item 1 is a vector of 3, must be a vector of 6",
    ),
    "masked": (
        lambda f: np.ma.masked_greater(replaced(99), 98),
        "1 of 240 values are masked, the first at row 3, column 2",
    ),
    "masked images": (lambda f: np.ma.masked_greater(IMAGES, 1), "values are masked, the first at row 0"),
    "everything masked": (lambda f: np.ma.masked_all((3, 2)), "6 of 6 values are masked"),
    "masked records": (
        lambda f: np.ma.array(structured(X), mask=[i == 2 for i in range(N)]),
        "6 of 240 values are masked, the first at row 2",
    ),
    "masked batches": (lambda f: [X[:9], np.ma.masked_greater(X[9:], 2)], "item 1: .* values are masked"),
    "records with a text": (
        lambda f: np.array([(1.0, "a"), (2.0, "b")], dtype=[("x", "f4"), ("name", "U3")]),
        "column 'name'",
    ),
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
    "list of texts": (lambda f: ["a", "b"], "a list of paths or texts, must be one path"),
    "list of paths": (lambda f: [f / "a.npy", f / "b.npy"], r"a list of paths .* build_dataset\('array', path="),
    "ragged list": (lambda f: [[1, 2, 3], [1, 2]], "item 1 has 2 values, must have 3 values as the first"),
    "ragged list with a number": (lambda f: [[1, 2, 3], 4], "item 1 has one value, must have 3 values"),
    "ragged deep list": (lambda f: [[[1, 2], [3]], [[1, 2], [3, 4]]], "unequal length"),
    "list of lists of texts": (lambda f: [["a", "b"], ["c", "d"]], "must be real numbers"),
    "numbers and texts": (lambda f: [[1, "a"], [2, "b"]], "of a tuple the first item counts"),
    "vectors of unequal length": (
        lambda f: [X[0], X[0, :3]],
        "sample 1 is a vector of 3, must be a vector of 6 as the first",
    ),
    "batches of unequal width": (lambda f: [X[:9], X[9:, :4]], "item 1 has 4 features, must have 6"),
    "a batch and a vector": (lambda f: [X[:9], X[9]], "item 1 is one number|item 1 has 1 feature, must have 6"),
    "list of images": (
        lambda f: list(IMAGES),
        r"40 items of 4 x 5, each may be a batch or one sample: give np.stack\(data\)",
    ),
    "list of square images": (lambda f: list(IMAGES[:, :, :4]), "40 items of 4 x 4, each may be"),
    "list of coloured images": (lambda f: list(COLOURED), "40 items of 3 x 4 x 5, each may be"),
    "list of tensors that are images": (
        lambda f: list(torch.from_numpy(COLOURED)),
        "each may be a batch or one sample",
    ),
    "list of equal batches": (lambda f: batches(np.repeat(X, 10, 0), 20), r"np.concatenate\(data\) if each is a batch"),
    "images with masks": (
        lambda f: [(image, image > 1) for image in np.repeat(IMAGES, 2, 1)],
        "40 items of 8 x 5, each may be",
    ),
    "square images with one-hot labels": (
        lambda f: [(image[:, :4], np.eye(4)[i % 4]) for i, image in enumerate(IMAGES)],
        "40 items of 4 x 4, each may be",
    ),
    "images with as many rows as classes": (
        lambda f: [(image, np.eye(8)[i % 8]) for i, image in enumerate(np.repeat(IMAGES, 2, 1))],
        "40 items of 8 x 5, each may be",
    ),
    "the same, from a loader of its own": (
        lambda f: Anew([(image, np.eye(8)[0].tolist()) for image in np.repeat(IMAGES, 2, 1)]),
        "40 items of 8 x 5, each may be",
    ),
    "sequences with a label a step": (
        lambda f: [(steps, LABELS[:8]) for steps in np.repeat(IMAGES, 2, 1)],
        "40 items of 8 x 5, each may be",
    ),
    "images with one-hot labels": (lambda f: [(image, np.eye(3)[0]) for image in IMAGES], "each may be a batch or one"),
    "pair of equal arrays": (lambda f: (X, X), "2 items of 40 x 6, each may be"),
    "iterable of images": (lambda f: Anew(list(IMAGES)), r"give each as x\[None\] if it is a sample"),
    "images of unequal size": (
        lambda f: Pairs(pil([BYTES[0], BYTES[1, :3]]), [0, 0]),
        "sample 1 is 3 x 5, must be 4 x 5 as the first",
    ),
    "grey and coloured images": (
        lambda f: Pairs(pil([BYTES[0], RGB[0]]), [0, 0]),
        "sample 1 is 4 x 5 x 3, must be 4 x 5",
    ),
    "one image": (lambda f: pil(BYTES)[0], "data: one image, must be several"),
    # mappings
    "empty mapping": (lambda f: {}, "an empty dict, must hold samples"),
    "mapping of numbers": (lambda f: {"a": 1, "b": 2}, "key must be one of a, b"),
    "mapping of one number": (lambda f: {"a": 1}, r"data\['a'\]: a int, must be"),
    "mapping with several usual names": (
        lambda f: {"data": X, "images": IMAGES},
        r"key must be one of data, images \(data, images are usual\)",
    ),
    "mapping with unusual names": (lambda f: {"train": X, "test": X}, "key must be one of train, test"),
    "mapping with a wrong key": (lambda f: {"train": X}, "key 'test', must be one of train", "test"),
    "mapping of columns": (lambda f: {"x": [1.0, 2.0], "y": [3.0, 4.0]}, r"data\['x'\]: shape \(2,\)"),
    "a key for an array": (lambda f: X, "key: 'x', must be left out for a ndarray", "x"),
    "a key for vectors": (lambda f: list(X), "key: 'x', must be left out", "x"),
    "a key that is a number": (lambda f: {"x": X}, "key: 3, must be a name", 3),
    "mappings without a usual name": (lambda f: [{"a": X, "b": X}], "item 0: .* key must be one of a, b"),
    "mappings with several usual names": (
        lambda f: Items([{"image": x, "x": x} for x in X]),
        r"\(image, x are usual\)",
    ),
    "mappings that differ": (
        lambda f: Items([{"x": X[0], "y": 0}, {"y": 0, "z": 0}]),
        "sample 1: .* key must be one of y, z",
    ),
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
    "nested tensor": (
        lambda f: torch.nested.nested_tensor([T[:2], T[:3]], layout=torch.jagged),
        "a nested tensor, must be",
    ),
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
    "worker with an error": (
        lambda f: DataLoader(Failing(), batch_size=4, num_workers=1),
        "batch 1 cannot be read .KeyError: 'image 7 is gone'",
    ),
    "items that do not stack": (
        lambda f: DataLoader(Items([X[0], X[0, :3]]), batch_size=2),
        "batch 0 cannot be read .RuntimeError",
    ),
    "iterable with an error": (lambda f: LateFailure(), "item 2 cannot be read .OSError: disk is gone"),
    "batch size None, images": (
        lambda f: DataLoader(TensorDataset(torch.from_numpy(IMAGES)), batch_size=None),
        "each may be a batch or one sample: give it a batch_size",
    ),
    "loader of numbers": (
        lambda f: DataLoader(TensorDataset(torch.ones(5)), batch_size=2),
        r"batch 0: shape \(2,\), must be",
    ),
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
    "polars with a text": (
        lambda f: pytest.importorskip("polars").DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
        "column 'b'",
    ),
    "polars series": (lambda f: pytest.importorskip("polars").Series([1.0, 2.0]), r"shape \(2,\)"),
    "Arrow array": (lambda f: pytest.importorskip("pyarrow").array([1.0, 2.0]), "shape|must"),
    # others
    "AnnData without X": (
        lambda f: pytest.importorskip("anndata").AnnData(obs=FRAME.rename(index=str)),
        "an AnnData without X, must have X or another matrix",
    ),
    "AnnData with a wrong key": (
        lambda f: annotated(X, {"counts": COUNTS}),
        "key: 'fpkm', must be one of X, layers/counts",
        "fpkm",
    ),
    "xarray of one axis": (lambda f: xarray().DataArray(X[0]), r"shape \(6,\)"),
    "xarray data set of several": (
        lambda f: xarray().Dataset({"u": (("t", "y"), X), "v": (("t", "y"), X)}),
        "key must be one of u, v",
    ),
    "closed HDF5 file": (lambda f: (file := in_hdf5(f, x=X), array := file["x"], file.close(), array)[3], "."),
    "HDF5 file of several": (lambda f: in_hdf5(f, u=X, v=X), "key must be one of u, v"),
    "HuggingFace texts": (lambda f: hugging({"text": ["a", "b"]}), "must hold numbers|must be real numbers"),
    "HuggingFace of several": (lambda f: hugging({"u": X, "v": X}), "key must be one of u, v"),
}
