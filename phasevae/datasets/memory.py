"""Samples that an object holds as a whole: arrays, tensors, tables, sparse matrices, AnnData."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.datasets.base import row_slices
from phasevae.datasets.columns import table_samples
from phasevae.datasets.entries import chosen_entry, is_mapping
from phasevae.datasets.feature_statistics import LARGEST_DIMENSION
from phasevae.datasets.h5ad import annotated_matrix
from phasevae.datasets.id_columns import check_ids
from phasevae.datasets.left_out import KEEP_ALL, Drop, dropped_columns, listed
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.values import as_numbers, check_masked, is_nested_numbers, is_sparse, is_tensor
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sliced:
    """An array that is computed by slices of its rows."""

    shape: tuple[int, ...]
    dtype: Any
    rows: Callable[[slice], Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Any:
        start, stop, _ = rows.indices(len(self))
        return self.rows(slice(start, stop))


def held_samples(data: Any, key: str | None = None, label: str = "data", drop: Drop = None) -> RawSamples | None:
    """Return the samples of an object that holds them as a whole, or None if it does not.

    Arrays are neither copied nor converted here: `x` gives its rows in slices, for `values.as_numbers`.

    Parameters
    ----------
    data : object
        An array of any library, torch tensor, sparse matrix, table (pandas, polars, pyarrow), AnnData, xarray array
        or nested list of numbers.
    key : str, optional
        Which field of a structured array, column of arrays of a table, or matrix of an AnnData ("layers/counts").
    label : str
        Name of the data in messages.
    drop : names or numbers of columns, optional
        Columns to leave out; an empty list keeps those that look like ids.

    Raises
    ------
    InputError
        For a key that is missing, needless or wrong, for masked values, and for columns that are ids or no numbers.
    """
    if _is_annotated(data):
        return _of_annotated(data, key, label, drop)
    if getattr(getattr(data, "dtype", None), "names", None):
        return _of_structured(data, key, label, drop)
    if (table := _as_pandas(data)) is not None:
        return _of_table(table, key, label, drop)
    found = None if is_mapping(data) else _of_arrays(data, label)
    if found is None:
        return None
    if key is not None:
        raise InputError(f"key: {key!r}, must be left out for a {type(data).__name__}")
    return _of_columns(found, drop)


def _of_columns(raw: RawSamples, drop: Drop, may_be_ids: bool = True) -> RawSamples:
    """An array without the columns to leave out, and without ids."""
    x, label = raw.x, raw.label
    if len(x.shape) != 2:
        if listed(drop):
            raise InputError(f"drop: {drop!r}, must be left out for samples of shape {tuple(x.shape[1:])}")
        return raw
    kept, dropped = range(x.shape[1]), []
    if listed(drop):
        names = raw.columns or list(map(str, kept))
        left_out = dropped_columns(names, drop, label)
        kept, dropped = [number for number in kept if number not in left_out], [names[i] for i in sorted(left_out)]
    numbers = Sliced((len(x), len(kept)), _numpy_type(x.dtype), lambda rows: as_numbers(x[rows], label)[:, list(kept)])
    if dropped:
        raw = replace(
            raw,
            x=numbers,
            columns=tuple(raw.columns[number] for number in kept) if raw.columns else (),
            left_out=(*raw.left_out, *(f"column {name}" for name in dropped)),
        )
    if may_be_ids and 0 < len(kept) <= LARGEST_DIMENSION and len(x):
        check_ids(replace(raw, x=numbers), drop)
    return raw


def _numpy_type(dtype: Any) -> np.dtype:
    """The nearest type of numpy: those of torch that it lacks are kinds of floats."""
    try:
        return np.dtype(str(dtype).removeprefix("torch."))
    except TypeError:
        return np.dtype(float)


def _of_arrays(data: Any, label: str) -> RawSamples | None:
    if is_tensor(data):
        x = _of_tensor(data, label)
    elif is_sparse(data):
        x = _of_sparse(data)
    elif hasattr(data, "isel"):  # an xarray DataArray
        first = data.dims[0] if data.dims else None
        x = Sliced(data.shape, data.dtype, lambda rows: data.isel({first: rows}).values)
    elif isinstance(data, np.ndarray) and data.dtype.kind != "O":
        check_masked(data, label)
        x = np.asarray(data)
    elif all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")) and not isinstance(data, np.ndarray):
        x = Sliced(tuple(data.shape or ()), data.dtype, data.__getitem__)
    elif is_nested_numbers(data) or hasattr(data, "__array__") or hasattr(data, "__array_interface__"):
        x = as_numbers(data, label)
    elif isinstance(data, bytes | bytearray | memoryview) or type(data).__module__ == "array":
        x = as_numbers(memoryview(data), label)
    else:
        return None
    return RawSamples(x, label)


def _of_tensor(tensor: Any, label: str) -> Any:
    """A tensor, of which a sparse one is cut by rows."""
    if getattr(tensor, "is_nested", False):  # it has no shape
        return as_numbers(tensor, label)
    if "sparse" not in str(tensor.layout):
        return tensor if "strided" in str(tensor.layout) else tensor.to_dense()
    stored = tensor.detach().to_sparse_coo().coalesce()
    return Sliced(
        tuple(tensor.shape),
        tensor.dtype,
        lambda rows: stored.narrow_copy(0, rows.start, rows.stop - rows.start).to_dense(),
    )


def _of_sparse(matrix: Any) -> Any:
    if matrix.ndim == 1:
        return matrix
    if matrix.ndim > 2:
        inner = matrix.shape[1:]
        flat = matrix.reshape((matrix.shape[0], -1)).tocsr()
        return Sliced(matrix.shape, matrix.dtype, lambda rows: flat[rows].toarray().reshape(-1, *inner))
    stored = matrix.tocsr()
    return Sliced(matrix.shape, matrix.dtype, lambda rows: stored[rows])


def _of_fields(fields: dict[str, Any], key: str | None, label: str, drop: Drop) -> RawSamples | None:
    """The one column or field whose values are arrays."""
    name, values, rest = chosen_entry(fields, key, label)
    found = held_samples(values, rest, f"{label}[{name!r}]", drop)
    left_out = tuple(f"column {other}" for other in fields if other != name)
    return None if found is None else replace(found, label=label, left_out=(*left_out, *found.left_out))


def _of_structured(data: Any, key: str | None, label: str, drop: Drop) -> RawSamples | None:
    """Fields of numbers as columns, or one field that is an array itself."""
    check_masked(data, label)
    fields = {name: data.dtype[name].shape for name in data.dtype.names}
    if key is not None or any(fields.values()):
        return _of_fields({name: data[name] for name in fields}, key, label, drop)
    if len(data.shape) != 1:
        raise InputError(f"{label}: records of shape {tuple(data.shape)}, must have one axis, that of the samples")
    import pandas as pd

    def native(name: str) -> Any:
        column = np.asarray(data[name])
        return column.astype(column.dtype.newbyteorder("="))

    return _of_table(pd.DataFrame({name: native(name) for name in fields}), None, label, drop)


def _of_table(table: pd.DataFrame, key: str | None, label: str, drop: Drop) -> RawSamples | None:
    """Columns of numbers, or the one column of arrays that the key names."""
    import pandas as pd

    if key is not None:
        return _of_fields({name: table[name].to_numpy() for name in table.columns}, key, label, drop)
    blocks = (table.iloc[rows] for rows in row_slices(len(table), table.shape[1]))
    raw = table_samples(blocks, label, drop, named=not isinstance(table.columns, pd.RangeIndex))
    check_ids(raw, drop)
    return raw


def _as_pandas(data: Any) -> pd.DataFrame | None:
    module = type(data).__module__.partition(".")[0]
    if module == "polars" and hasattr(data, "collect"):  # a LazyFrame
        data = data.collect()
    if (module == "polars" and hasattr(data, "columns")) or (module == "pyarrow" and hasattr(data, "schema")):
        return data.to_pandas() if hasattr(data, "to_pandas") else None
    if module == "datasets" and hasattr(data, "to_pandas") and hasattr(data, "features"):  # of HuggingFace
        scalar = all(type(feature).__name__ == "Value" for feature in data.features.values())
        return data.to_pandas() if scalar else None
    if hasattr(data, "iloc") and hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return data
    return None


def _is_annotated(data: Any) -> bool:
    return all(hasattr(data, name) for name in ("X", "layers", "obsm", "var_names"))


def _of_annotated(data: Any, key: str | None, label: str, drop: Drop) -> RawSamples | None:
    """X of an AnnData, or the layer, embedding or raw matrix that the key names."""
    matrix, columns = annotated_matrix(data, key, label)
    found = held_samples(matrix, None, label, KEEP_ALL)
    if found is None:
        return None
    return _of_columns(replace(found, columns=columns or found.columns), drop, may_be_ids=False)
