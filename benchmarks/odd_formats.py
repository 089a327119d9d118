"""How the files of every readable format are written, and read independently, by libraries alone."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import struct
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Format(NamedTuple):
    """How the files of a format are written and read, by libraries alone.

    `texts` says whether cells may hold anything, and `needs` names the library where it is optional.
    """

    ending: str
    write: Callable[[Path, pd.DataFrame], None]
    read: Callable[[Path, tuple[str, ...]], np.ndarray]
    texts: bool = False
    needs: str = ""


# Text


def _text(separator: str, decimal: str = ".", names: bool = True) -> Callable[[Path, pd.DataFrame], None]:
    def write(path: Path, table: pd.DataFrame) -> None:
        table.to_csv(path, sep=separator, decimal=decimal, index=False, header=names, compression="infer")

    return write


def _text_reader(separator: str | None, decimal: str = ".") -> Callable[[Path, tuple[str, ...]], np.ndarray]:
    """Cell by cell with Python's own means; a first row with text is the names."""

    def read(path: Path, names: tuple[str, ...]) -> np.ndarray:
        opened = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(path.suffix.lower(), open)
        with opened(path, "rb") as stream:
            text = stream.read().decode("utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        rows = [line.split() for line in lines] if separator is None else list(csv.reader(lines, delimiter=separator))
        numbers = [[_number(cell, decimal) for cell in row] for row in rows]
        head = rows[0] if None in numbers[0] else None
        values = np.array(numbers[0 if head is None else 1 :], dtype=float)
        if names and head is not None:
            known = [name.strip() for name in head]
            # A name that comes again has a number behind it, as pandas gives it.
            known = [f"{name}.{known[:i].count(name)}" if name in known[:i] else name for i, name in enumerate(known)]
            values = values[:, [known.index(name) for name in names]]
        elif names:  # a header of numbers
            values = np.array(numbers[1:], dtype=float)
        return values

    return read


def _number(cell: str, decimal: str) -> float | None:
    cell = cell.strip().lower()
    if cell in ("true", "false"):
        return float(cell == "true")
    try:
        return float(cell.replace(decimal, "."))
    except ValueError:
        return None


# Tables and arrays


def _frame_reader(read: Callable[[Path], pd.DataFrame]) -> Callable[[Path, tuple[str, ...]], np.ndarray]:
    def values(path: Path, names: tuple[str, ...]) -> np.ndarray:
        table = read(path)
        table.columns = [str(name) for name in table.columns]
        return table[list(names) or list(table.columns)].to_numpy(dtype=float)

    return values


def _write_sheet(path: Path, table: pd.DataFrame) -> None:
    table.to_excel(path, index=False)


def _array(write: Callable[[Path, np.ndarray], Any], read: Callable[[Path], Any]) -> tuple[Callable, Callable]:
    """Writer and reader of a format that holds an array without names."""

    def read_array(path: Path, names: tuple[str, ...]) -> np.ndarray:
        value = read(path)
        return np.asarray(value.toarray() if hasattr(value, "toarray") else value, dtype=float)

    return lambda path, table: write(path, table.to_numpy()), read_array


def _only(mapping: Any) -> Any:
    """The only entry of a mapping that is no comment of the format."""
    (name,) = [name for name in mapping if not str(name).startswith("__")]
    return mapping[name]


def _write_mtx(path: Path, x: np.ndarray) -> None:
    import scipy.io
    import scipy.sparse

    with path.open("wb") as stream:
        scipy.io.mmwrite(stream, scipy.sparse.coo_array(x))


def _read_mtx(path: Path) -> Any:
    import scipy.io

    with path.open("rb") as stream:
        return scipy.io.mmread(stream)


def _save_sparse(path: Path, x: np.ndarray) -> None:
    import scipy.sparse

    scipy.sparse.save_npz(path, scipy.sparse.csr_array(x))


def _load_sparse(path: Path) -> Any:
    import scipy.sparse

    return scipy.sparse.load_npz(path)


def _write_mat(path: Path, x: np.ndarray) -> None:
    import scipy.io

    scipy.io.savemat(path, {"x": x})


def _read_mat(path: Path) -> Any:
    import scipy.io

    return _only(scipy.io.loadmat(path))


def _write_torch(path: Path, x: np.ndarray) -> None:
    import torch

    torch.save(torch.from_numpy(np.ascontiguousarray(x)), path)


def _read_torch(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=True).numpy()


def _write_safetensors(path: Path, x: np.ndarray) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.ascontiguousarray(x)}, path)


def _read_safetensors(path: Path) -> Any:
    from safetensors.numpy import load_file

    return _only(load_file(path))


def _write_hdf5(path: Path, x: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as stream:
        stream["x"] = x


def _read_hdf5(path: Path) -> Any:
    import h5py

    with h5py.File(path) as stream:
        return _only(stream)[...]


def _write_zarr(path: Path, x: np.ndarray) -> None:
    import zarr

    zarr.save_array(path, x)


def _read_zarr(path: Path) -> Any:
    import zarr

    return zarr.open_array(path, mode="r")[...]


def _write_h5ad(path: Path, x: np.ndarray) -> None:
    import anndata

    data = anndata.AnnData(x)
    for frame in (data.obs, data.var):  # not all versions write the text type of pandas 3
        frame.index = pd.Index(frame.index.to_numpy(dtype=object), dtype=object)
    data.write_h5ad(path)


def _read_h5ad(path: Path) -> Any:
    import anndata

    return anndata.read_h5ad(path).X


def _write_idx(path: Path, x: np.ndarray) -> None:
    scaled = np.clip(np.nan_to_num(x) * 20 + 100, 0, 255).astype(np.uint8)
    content = struct.pack(">HBBII", 0, 8, 2, *scaled.shape) + scaled.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)


def _read_idx(path: Path) -> Any:
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
    zero, kind, axes = struct.unpack(">HBB", content[:4])
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    if (zero, kind) != (0, 8):
        raise ValueError("another type")
    body = content[4 + 4 * axes :]
    return np.frombuffer(body, np.uint8).reshape(shape).reshape(shape[0], -1)


# Images: 3 x 3 pixels, a file for each sample


def _pixels(x: np.ndarray) -> np.ndarray:
    scaled = np.clip(np.nan_to_num(x) * 20 + 100, 0, 255).astype(np.uint8)
    return np.concatenate([scaled, scaled[:, :1] // 2, scaled[:, ::-1][:, :4]], axis=1)[:, :9].reshape(-1, 3, 3)


def _image(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _decode(content: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image, dtype=float).ravel() / 255


def _write_folder(path: Path, x: np.ndarray) -> None:
    path.mkdir()
    for i, pixels in enumerate(_pixels(x)):
        (path / f"{i:03}.png").write_bytes(_image(pixels))


def _read_folder(path: Path) -> Any:
    return np.array([_decode(file.read_bytes()) for file in sorted(path.iterdir())])


def _write_zip(path: Path, x: np.ndarray) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i, pixels in enumerate(_pixels(x)):
            archive.writestr(f"{i:03}.png", _image(pixels))


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return np.array([_decode(archive.read(name)) for name in sorted(archive.namelist())])


def _write_stack(path: Path, x: np.ndarray) -> None:
    from PIL import Image

    first, *others = [Image.fromarray(pixels) for pixels in _pixels(x)]
    first.save(path, "TIFF", save_all=True, append_images=others)


def _read_stack(path: Path) -> Any:
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        return np.array([np.asarray(page, dtype=float).ravel() / 255 for page in ImageSequence.Iterator(image)])


_KNOWN = (
    Format(".csv", _text(","), _text_reader(","), texts=True),
    Format(".csv", _text(";"), _text_reader(";"), texts=True),
    Format(".csv", _text(";", ","), _text_reader(";", ","), texts=True),
    Format(".csv", _text(",", names=False), _text_reader(",")),
    Format(".tsv", _text("\t"), _text_reader("\t"), texts=True),
    Format(".txt", _text(" ", names=False), _text_reader(None)),
    Format(".csv.gz", _text(","), _text_reader(","), texts=True),
    Format(".csv.xz", _text(","), _text_reader(","), texts=True),
    Format(".parquet", lambda p, t: t.to_parquet(p), _frame_reader(pd.read_parquet), texts=True),
    Format(".feather", lambda p, t: t.to_feather(p), _frame_reader(pd.read_feather), texts=True),
    Format(
        ".xlsx", lambda p, t: t.to_excel(p, index=False), _frame_reader(pd.read_excel), texts=True, needs="openpyxl"
    ),
    Format(".npy", *_array(np.save, np.load)),
    Format(".npz", *_array(lambda p, x: np.savez(p, x=x), lambda p: _only(np.load(p)))),
    Format(".npz", *_array(_save_sparse, _load_sparse)),
    Format(".mtx", *_array(_write_mtx, _read_mtx)),
    Format(".mat", *_array(_write_mat, _read_mat)),
    Format(".pt", *_array(_write_torch, _read_torch)),
    Format(".safetensors", *_array(_write_safetensors, _read_safetensors)),
    Format(".h5", *_array(_write_hdf5, _read_hdf5), needs="h5py"),
    Format(".zarr", *_array(_write_zarr, _read_zarr), needs="zarr"),
    Format(".h5ad", *_array(_write_h5ad, _read_h5ad), needs="anndata"),
    Format("-images-idx2-ubyte", *_array(_write_idx, _read_idx)),
    Format("-images-idx2-ubyte.gz", *_array(_write_idx, _read_idx)),
    Format("", *_array(_write_folder, _read_folder)),
    Format(".zip", *_array(_write_zip, _read_zip)),
    Format(".tif", *_array(_write_stack, _read_stack)),
)
FORMATS = tuple(each for each in _KNOWN if not each.needs or find_spec(each.needs))
"""The formats that can be written here."""

IMAGES = ("", ".zip", ".tif", "-images-idx2-ubyte", "-images-idx2-ubyte.gz")
