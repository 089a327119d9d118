"""Numbers of any array-like value as a numpy array: tensors, sparse and masked arrays, images, nested lists."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.file_errors import first_line
from phasevae.errors import InputError


def as_numbers(values: Any, label: str) -> NDArray:
    """Return a value as an array of real numbers of its own shape and type.

    Parameters
    ----------
    values : array-like
        A numpy array, torch tensor of any layout and precision, sparse matrix, Pillow image, nested list of numbers,
        list of such values of equal shape, or an object that numpy can convert.
    label : str
        Name of the value in messages.

    Raises
    ------
    InputError
        For masked values, for values that are not real numbers, and for anything that has no array.
    """
    if is_image(values):
        array = pixels(values)
    elif is_tensor(values):
        array = _of_tensor(values, label)
    elif is_sparse(values):
        array = values.toarray()
    elif isinstance(values, list | tuple) and values and not is_nested_numbers(values):
        array = _stacked([as_numbers(value, label) for value in values], label)
    else:
        array = _converted(values, label)
    check_masked(array, label)
    array = np.asarray(array)
    if array.dtype.kind == "O":
        array = _of_objects(array, label)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{label}: holds values of type {array.dtype}, must be real numbers")
    return array


def check_masked(array: Any, label: str) -> None:
    """Raise InputError for an array with masked values, which says how many there are and where the first is."""
    if not isinstance(array, np.ma.MaskedArray):
        return
    mask = np.ma.getmaskarray(array)
    if mask.dtype.names:
        mask = np.stack([mask[name].reshape(len(mask), -1).any(1) for name in mask.dtype.names], 1)
    n_masked = int(np.count_nonzero(mask))
    if not n_masked:
        return
    first = np.argwhere(mask.reshape(mask.shape[0], -1) if mask.ndim else mask)[0]
    place = f", the first at row {first[0]}, column {first[1]} (counted from 0)" if first.size else ""
    raise InputError(
        f"{label}: {n_masked} of {mask.size} values are masked{place}, must all have a value "
        f"(fill them, or leave out their rows or columns)"
    )


def pixels(image: Any) -> NDArray:
    """Return a Pillow image as [H, W] or [H, W, 3], as image files are read: from 0 to 1 where its range is known.

    Transparency is left out.
    """
    if image.mode[0] in "FI":
        array, largest = np.asarray(image), largest_pixel(image)
    else:
        grey = image.mode in ("1", "L", "LA", "La")
        array, largest = np.asarray(image.convert("L" if grey else "RGB")), largest_pixel(image)
    return array if largest is None else array / np.float32(largest)


def largest_pixel(image: Any) -> int | None:
    """Return the number by which pixels of a Pillow image are divided; None for numbers of any range."""
    if image.mode.startswith("I;16"):
        return 65535
    return None if image.mode in ("F", "I") else 255


def is_tensor(values: Any) -> bool:
    """Return whether a value is a torch tensor."""
    return hasattr(values, "detach") and hasattr(values, "cpu")


def is_image(values: Any) -> bool:
    """Return whether a value is a Pillow image."""
    return hasattr(values, "getbands") and hasattr(values, "convert")


def is_sparse(values: Any) -> bool:
    """Return whether a value is a sparse array or matrix of scipy."""
    return hasattr(values, "tocsr") and hasattr(values, "toarray")


def is_number(value: Any) -> bool:
    """Return whether a value is one number of Python or numpy."""
    return isinstance(value, Number | np.generic) and not isinstance(value, np.str_ | np.bytes_)


def is_nested_numbers(values: Any) -> bool:
    """Return whether a value is a list or tuple of numbers, or of such lists, by the first of these."""
    while isinstance(values, list | tuple) and values:
        if is_number(values[0]):
            return all(map(is_number, values))
        values = values[0] if values[0] is not values else ()
    return False


def _of_tensor(tensor: Any, label: str) -> NDArray:
    if getattr(tensor, "is_nested", False):
        raise InputError(f"{label}: a nested tensor, must be samples of equal shape")
    try:
        tensor = tensor.detach().cpu()
        if "strided" not in str(tensor.layout):
            tensor = tensor.to_dense()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        try:
            return tensor.resolve_neg().numpy()
        except TypeError:  # a type that numpy does not have, such as bfloat16
            return tensor.float().numpy()
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise InputError(f"{label}: a tensor without numbers ({cause(error)})") from error


def _converted(values: Any, label: str) -> NDArray:
    try:
        return np.asanyarray(values)
    except ValueError as error:
        if isinstance(values, list | tuple):
            raise InputError(f"{label}: {_ragged(values)}") from None
        raise InputError(f"{label}: a {type(values).__name__} that is no array ({cause(error)})") from error
    except Exception as error:  # whatever __array__ of an unknown class raises
        raise InputError(f"{label}: a {type(values).__name__} that is no array ({cause(error)})") from error


def _ragged(values: list | tuple) -> str:
    """Say which item of a nested list differs from the first."""
    lengths = [len(value) if isinstance(value, list | tuple | np.ndarray) else None for value in values]
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            one = "one value" if length is None else f"{length} values"
            first = "one value" if lengths[0] is None else f"{lengths[0]} values"
            return f"item {row} has {one}, must have {first} as the first item"
    return "lists of unequal length, must be samples of equal shape"


def _stacked(arrays: list[NDArray], label: str) -> NDArray:
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"{label}: item {number} is {sides(array.shape)}, must be {sides(arrays[0].shape)} as the first"
            )
    return np.stack(arrays)


def _of_objects(array: NDArray, label: str) -> NDArray:
    """Numbers, or arrays of equal shape, that are stored as Python objects."""
    if not array.size or not array.ndim:
        raise InputError(f"{label}: holds Python objects, must be real numbers")
    flat = array.ravel().tolist()
    if array.ndim == 1 and all(hasattr(value, "shape") or isinstance(value, list | tuple) for value in flat):
        return _stacked([as_numbers(value, label) for value in flat], label)
    for place, value in enumerate(flat):
        if value is not None and not (is_number(value) and np.isreal(value)):
            row = np.unravel_index(place, array.shape)[0]
            shown = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
            raise InputError(f"{label}: holds {shown} at row {row} (counted from 0), must be real numbers")
    return array.astype(np.float64)


def sides(shape: tuple[int, ...]) -> str:
    """Return a shape in words: "28 x 28", or "one number" where it has no axes."""
    if not shape:
        return "one number"
    return " x ".join(map(str, shape)) if len(shape) > 1 else f"a vector of {shape[0]}"


def cause(error: BaseException) -> str:
    """Return kind and message of an exception on one line; of one that a worker passed on, of the original one."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if "Original Traceback" in str(error):  # torch's DataLoader
        return lines[-1].strip()
    return f"{type(error).__name__}: {first_line(error)}" if lines else type(error).__name__
