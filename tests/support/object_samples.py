"""Samples, and objects that hold them, for the tests of what Python objects are read as."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import (
    Dataset,
    IterableDataset,
)

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
