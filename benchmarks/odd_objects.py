"""Python objects that people give as data, and objects that are none, each with the samples that it holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from odd_files import N_ROWS, NAMES, Case


def _rows(rng: random.Random, *shape: int) -> np.ndarray:
    numbers = np.random.default_rng(rng.randrange(2**32))
    return numbers.normal(size=(N_ROWS, *(shape or (4,)))) + 1


# Arrays


def _array_types(rng: random.Random) -> tuple[Any, Any]:
    kinds = ("f2", ">f4", "<f8", "longdouble", "i1", "u2", ">i4", "u8", "?", "c8", "O", "U8", "S8", "M8[D]", "m8[s]")
    kind, x = rng.choice(kinds), 10 * _rows(rng)
    if kind in ("M8[D]", "m8[s]"):
        return x.astype(np.int64).astype(kind), None
    if kind == "u2":
        x = np.abs(x)
    value = x.astype(np.uint8).astype(kind) if kind == "u8" else x.astype(kind)
    return value, None if kind in ("c8", "U8", "S8") else value.astype(float)


def _array_shapes(rng: random.Random) -> tuple[Any, Any]:
    shape = rng.choice(((), (0,), (1,), (7,), (0, 4), (1, 4), (30, 0), (30, 1), (30, 2, 3), (2, 4), (30, 1, 1, 2)))
    x = np.random.default_rng(rng.randrange(2**32)).normal(size=shape)
    is_usable = len(shape) > 1 and shape[0] > 1 and x.size
    return x, x.reshape(shape[0], -1) if is_usable else None


def _array_layouts(rng: random.Random) -> tuple[Any, Any]:
    x = _rows(rng)
    repeated = np.broadcast_to(x[:, :1], x.shape)
    view = rng.choice((np.asfortranarray(x), x[::-1], x[:, ::-1], x[::2], repeated, x.T.copy().T))
    view.flags.writeable = False
    return view, view


def _bad_values(rng: random.Random) -> tuple[Any, Any]:
    x = _rows(rng)
    x[rng.randrange(N_ROWS), rng.randrange(4)] = rng.choice((np.nan, np.inf, -np.inf, 1e30, 1e300))
    return rng.choice((x, x.tolist(), pd.DataFrame(x, columns=NAMES))), None


def _masked(rng: random.Random) -> tuple[Any, Any]:
    x = np.ma.masked_array(_rows(rng))
    if rng.random() < 0.5:
        x[3, 1] = np.ma.masked
        return x, None
    return x, x.filled()


def _subclasses(rng: random.Random) -> tuple[Any, Any]:
    x = _rows(rng)
    structured = np.array([tuple(row) for row in x], dtype=[(name, float) for name in NAMES])
    return rng.choice(((np.asmatrix(x), x), (structured, x), (structured.view(np.recarray), x), (memoryview(x), x)))


class _Interface:
    """An array by protocol alone."""

    def __init__(self, x: np.ndarray, name: str):
        setattr(self, name, getattr(x, name))


class _Array:
    def __init__(self, x: np.ndarray):
        self.x = x

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.x if dtype is None else self.x.astype(dtype)


def _protocols(rng: random.Random) -> tuple[Any, Any]:
    x = _rows(rng)
    return rng.choice((_Array(x), _Interface(x, "__array_interface__"))), x


# Python's own


def _lists(rng: random.Random) -> tuple[Any, Any]:
    x = _rows(rng)
    ragged = x.tolist()
    ragged[4].pop()
    mixed = x.tolist()
    mixed[2][1] = rng.choice(("text", None, [1.0], {}))
    choices = [
        (x.tolist(), x), (list(x), x), (tuple(map(tuple, x)), x), (ragged, None), (mixed, None), ([], None),
        ([[]] * 9, None), ([x[0]], None), (x[:, 0].tolist(), None), ("text", None), (b"bytes", None), (None, None),
        (3.0, None), ({1, 2}, None), (object(), None), (int, None), (np, None), (lambda: x, None), (iter(x), None),
        ({}, None), ({"x": 3}, None), ({"x": x}, x), ({"x": x, "y": x[:, 0]}, x), ((x, x[:, 0]), x), (range(30), None),
        (NotImplemented, None), ([True, False] * 15, None), (zip(x, x, strict=True), None),
        ([x, x], np.concatenate([x, x])), (frozenset((1, 2)), None),
    ]  # fmt: skip
    return rng.choice(choices)


class _Items:
    """A data set by its protocol, which may lie."""

    def __init__(self, items: list, length: int | None = None, fails: int | None = None):
        self.items, self.length, self.fails = items, len(items) if length is None else length, fails

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        if i == self.fails:
            raise RuntimeError("the disk is gone")
        return self.items[i]


class _Endless:
    def __iter__(self) -> Iterator:
        raise OSError("not today")


def _data_sets(rng: random.Random) -> tuple[Any, Any]:
    x = _rows(rng)
    rows = list(x)
    choices = [
        (_Items(rows), x), (_Items([(row, 1) for row in rows]), x), (_Items([{"x": row, "y": 1} for row in rows]), x),
        (_Items(rows, 50), None), (_Items(rows, 0), None), (_Items(rows, -1), None), (_Items(rows, fails=5), None),
        (_Items([*rows[:9], rows[9][:2], *rows[10:]]), None), (_Items([row.tolist() for row in rows]), x),
        (_Items(["a"] * 9), None), (_Items([None] * 9), None), (_Endless(), None),
    ]  # fmt: skip
    return rng.choice(choices)


# Libraries


def _frames(rng: random.Random) -> tuple[Any, Any]:
    table = pd.DataFrame(_rows(rng), columns=NAMES)
    x = table.to_numpy()
    missing = table.astype("Float64")
    missing.iloc[2, 1] = pd.NA
    double = table.set_axis(["a", "b", "a", "c"], axis=1)
    levels = table.set_axis(pd.MultiIndex.from_product([["a", "b"], [0, 1]]), axis=1)
    choices = [
        (table, x), (table.astype("Float64"), x), (table.astype("float32"), x.astype("float32")), (missing, None),
        (table.assign(label="a"), None), (table.assign(day=pd.Timestamp("2020-01-01")), None), (double, x),
        (levels, x), (table.assign(kind=pd.Categorical(["a"] * N_ROWS)), None), (table.iloc[:1], None),
        (table.iloc[:0], None), (table["alpha"], None), (table.reset_index(names="id"), None),
        (table > 1, (x > 1).astype(float)), (table.astype(object), x), (table.set_index("alpha"), x[:, 1:]),
        (table.assign(z=1 + 2j), None), (table.groupby("alpha"), None), (table.rolling(2), None),
        (table.astype("string"), None), (table.index, None),
    ]  # fmt: skip
    return rng.choice(choices)


def _other_tables(rng: random.Random) -> tuple[Any, Any]:
    import polars
    import pyarrow
    import xarray

    table = pd.DataFrame(_rows(rng), columns=NAMES)
    x = table.to_numpy()
    frame, arrow = polars.from_pandas(table), pyarrow.Table.from_pandas(table)
    holed = frame.with_columns(polars.when(polars.col("beta") > 1).then(polars.col("beta")).alias("beta"))
    choices = [
        (frame, x), (frame.lazy(), x), (holed, None), (frame["alpha"], None), (frame.head(0), None),
        (frame.with_columns(name=polars.lit("a")), None), (arrow, x), (arrow.to_batches()[0], x),
        (arrow.column("alpha"), None), (xarray.DataArray(x, dims=("row", "feature")), x),
        (xarray.DataArray(x[0]), None),
    ]  # fmt: skip
    return rng.choice(choices)


def _sparse(rng: random.Random) -> tuple[Any, Any]:
    import scipy.sparse

    x = _rows(rng)
    x[x < 1] = 0
    kind = rng.choice(("csr", "csc", "coo", "lil", "dok", "bsr", "dia"))
    array = getattr(scipy.sparse, f"{kind}_{rng.choice(('array', 'matrix'))}")(x)
    if rng.random() < 0.3:
        x[x == 0] = np.nan
        return scipy.sparse.csr_array(x), None
    return array, x


def _tensors(rng: random.Random) -> tuple[Any, Any]:
    import torch

    x = torch.from_numpy(_rows(rng))
    low = x.to(torch.bfloat16)
    whole = torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)
    choices = [
        (x, x), (x.float().requires_grad_(), x.float()), (low, low.float()), (x.half(), x.half().float()),
        (x.T.contiguous().T, x), (x.to_sparse(), x), (x.to("meta"), None), (x[:1], None), (x[0], None),
        (torch.tensor(3.0), None), (x > 1, (x > 1).float()), (x.to(torch.complex64), None), (torch.nn.Parameter(x), x),
        ((x, x[:, 0]), x), ({"image": x}, x), ([x[0], x[1]], x[:2]),
        (whole, whole.dequantize()),
        (x.index_fill(0, torch.tensor([2]), torch.nan), None), (torch.nested.nested_tensor([x[:2], x[2:]]), None),
        (torch.nn.Linear(4, 2), None), (torch.Generator(), None),
    ]  # fmt: skip
    value, expected = rng.choice(choices)
    return value, None if expected is None else expected.detach().numpy()


def _loaders(rng: random.Random) -> tuple[Any, Any]:
    from torch import from_numpy
    from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

    x = from_numpy(_rows(rng))

    class Stream(IterableDataset):
        def __iter__(self) -> Iterator:
            return iter(x)

    data = TensorDataset(x, x[:, 0])
    images = TensorDataset(x[:, None].expand(-1, 3, 4))
    choices = [
        (data, x), (DataLoader(data, 7), x), (DataLoader(data, 7, drop_last=True), x[:28]),
        (Subset(data, range(10)), x[:10]), (DataLoader(data, None), x), (DataLoader(Stream(), 7), x), (Stream(), x),
        (DataLoader(TensorDataset(x[:0]), 7), None), (DataLoader(images, 5), x[:, None].expand(-1, 3, 4).flatten(1)),
        (DataLoader(data, 7, collate_fn=lambda batch: "a"), None),
        (DataLoader(data, 7, collate_fn=lambda batch: {"x": batch[0][0][None]}), x[::7]), (DataLoader(data, 1), x),
    ]  # fmt: skip
    value, expected = rng.choice(choices)
    return value, None if expected is None else expected.numpy()


def _annotated(rng: random.Random) -> tuple[Any, Any]:
    import anndata
    import scipy.sparse

    x = _rows(rng)
    whole = anndata.AnnData(x)
    bare = anndata.AnnData(obs=pd.DataFrame(index=list("abc")))
    return rng.choice(((whole, x), (anndata.AnnData(scipy.sparse.csr_matrix(x)), x), (bare, None)))


_KNOWN: tuple[tuple[Callable[[random.Random], tuple[Any, Any]], tuple[str, ...]], ...] = (
    *((maker, ()) for maker in (_array_types, _array_shapes, _array_layouts, _bad_values, _masked, _subclasses)),
    *((maker, ()) for maker in (_protocols, _lists, _lists, _data_sets, _frames, _frames)),
    *((maker, ()) for maker in (_sparse, _tensors, _tensors, _loaders)),
    (_other_tables, ("polars", "pyarrow", "xarray")),
    (_annotated, ("anndata",)),
)
OBJECTS = tuple(maker for maker, libraries in _KNOWN if all(map(find_spec, libraries)))
"""What makes objects, as far as the libraries are here."""


def object_case(_: Any, rng: random.Random) -> Case:
    """An object that holds samples, or should be refused."""
    maker = rng.choice(OBJECTS)
    value, expected = maker(rng)
    shown = " ".join(repr(value).split())[:80]

    def read(names: tuple[str, ...]) -> np.ndarray:
        if expected is None:
            raise TypeError("holds no samples")
        return np.asarray(expected, dtype=float)

    return Case(f"{maker.__name__.strip('_')}: {type(value).__name__} {shown}", value, {}, read)
