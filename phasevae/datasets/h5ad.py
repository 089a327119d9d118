"""Matrices of AnnData files (.h5ad)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.dense import filled
from phasevae.datasets.file_errors import damage_named, needed
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.sparse import dense
from phasevae.errors import InputError, no_such_choice


def read_h5ad(path: Path, key: str | None, beside: str | None) -> RawSamples:
    """Read X, a layer, an embedding or the raw matrix of an AnnData file as a dense array, in blocks of rows.

    Parameters
    ----------
    path : Path
    key : str, optional
        "X" (the default), "layers/NAME", "obsm/NAME", "raw", or the name of a layer or an embedding alone.
    beside : str, optional
        A column of obs that becomes `labels`.

    Raises
    ------
    InputError
        Without anndata, for a damaged file, and for a matrix that is not there.
    """
    anndata = needed(path, "anndata")
    with damage_named(path, ".h5ad file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = anndata.read_h5ad(path, backed="r")
        try:
            return replace(_matrix(path, data, key), labels=_labels(path, data, beside))
        finally:
            data.file.close()


def _labels(path: Path, data: Any, beside: str | None) -> NDArray | None:
    if beside is None:
        return None
    if beside not in data.obs.columns:
        raise no_such_choice(f"{path}: condition column", beside, list(map(str, data.obs.columns)))
    return data.obs[beside].to_numpy()


def _matrix(path: Path, data: Any, key: str | None) -> RawSamples:
    matrix, columns = annotated_matrix(data, key, str(path))
    if hasattr(matrix, "columns"):
        columns, matrix = tuple(map(str, matrix.columns)), matrix.to_numpy()
    if hasattr(matrix, "tocsr"):
        x = dense(matrix, str(path))
    else:
        x = filled(matrix if hasattr(matrix, "dtype") else np.asarray(matrix), str(path))
    return RawSamples(x, str(path), columns=columns)


def annotated_matrix(data: Any, key: str | None, label: str) -> tuple[Any, tuple[str, ...]]:
    """Return a matrix of an AnnData, on disk or in memory, with the names of its columns.

    Parameters
    ----------
    data : AnnData
    key : str, optional
        See `read_h5ad`.
    label : str
        Name of the data in messages.

    Raises
    ------
    InputError
        For a matrix that is not there.
    """
    matrices = _matrices(data)
    wanted = "X" if key is None else key.removesuffix("/X").strip("/")
    names = [wanted, f"layers/{wanted}", f"obsm/{wanted}"]
    name = next((name for name in names if name in matrices), None)
    if name is None:
        if not matrices:
            raise InputError(f"{label}: an AnnData without X, must have X or another matrix")
        if key is None:
            raise InputError(f"{label}: an AnnData without X, key must be one of {', '.join(matrices)}")
        raise no_such_choice(f"{label}: key", key, matrices)
    matrix, columns = matrices[name]()
    if hasattr(matrix, "to_memory"):  # a sparse matrix fits, and some versions of anndata cannot slice it on disk
        matrix = matrix.to_memory()
    return matrix, tuple(columns)


def _matrices(data: Any) -> dict[str, Callable[[], tuple[Any, Iterable[str]]]]:
    """How to get each matrix with the names of its columns, by its key."""

    def genes() -> Iterator[str]:
        return map(str, data.var_names)

    found: dict[str, Callable[[], tuple[Any, Iterable[str]]]] = {}
    # Of a file without X, some versions of anndata raise an error for data.X.
    if "X" in data.file if getattr(data, "isbacked", False) else data.X is not None:
        found["X"] = lambda: (data.X, genes())
    for name in data.layers:
        found[f"layers/{name}"] = lambda name=name: (data.layers[name], genes())
    for name in data.obsm:
        found[f"obsm/{name}"] = lambda name=name: (data.obsm[name], ())
    if getattr(data, "raw", None) is not None:
        found["raw"] = lambda: (data.raw.X, map(str, data.raw.var_names))
    return found
