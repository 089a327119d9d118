"""Tensors in .pt and .pth files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from phasevae.datasets.entries import chosen_key
from phasevae.datasets.file_errors import check_memory, damage_named
from phasevae.datasets.reading import RawSamples
from phasevae.errors import InputError


def read_torch(path: Path, key: str | None) -> RawSamples:
    """Read a tensor that torch.save wrote, alone or in dictionaries, lists and tuples.

    Nothing in the file is executed: anything but tensors and plain values is refused.

    Parameters
    ----------
    path : Path
    key : str, optional
        Which tensor, where there are several: its key or number; of nested ones all keys with slashes between.

    Raises
    ------
    InputError
        For a damaged file, objects other than tensors, and several tensors without a key.
    """
    import torch

    with damage_named(path, f"{path.suffix} file of tensors"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_memory(path, path.stat().st_size)
        try:
            # Without the check, indices of a damaged sparse tensor lead outside of its arrays.
            with torch.sparse.check_sparse_tensor_invariants(True):
                content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            if "weights_only" not in str(error) and "WeightsUnpickler" not in str(error):
                raise
            raise InputError(
                f"{path}: holds other objects than tensors, must be a tensor or a dictionary of tensors, saved by "
                "torch.save(x, PATH)"
            ) from None
        tensors = dict(_tensors(content))
        name, left_out = chosen_key(path, key, list(tensors), "tensor")
        tensor = tensors[name]
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        return RawSamples(tensor.detach().resolve_conj().resolve_neg().numpy(), str(path), left_out=left_out)


def _tensors(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """All tensors with their keys."""
    if hasattr(content, "layout"):
        yield place or "tensor", content
        return
    items: Any = ()
    if isinstance(content, Mapping):
        items = content.items()
    elif isinstance(content, list | tuple):
        items = enumerate(content)
    for name, item in items:
        yield from _tensors(item, f"{place}/{name}" if place else str(name))
