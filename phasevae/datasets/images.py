"""Images of a folder or archive, one sample each."""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets import archives
from phasevae.datasets.base import Dataset, checked_flag, checked_int, checked_path, row_slices
from phasevae.datasets.standardize import new_array, standardized
from phasevae.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm")


def images(
    *,
    path: Path | str,
    size: int | None = None,
    grey: bool | None = True,
    standardize: str = "per-feature",
    skip_damaged: bool = False,
) -> Dataset:
    """The images of a folder (with its subfolders), .zip or .tar(.gz|.bz2|.xz), in the order of their names.

    Each is made grey (ITU-R 601) or RGB (without `grey`, as the first one is), resized to `size` x `size` (antialiased
    bilinear) and flattened in the order height, width, channel; pixels are divided by 255. Without `size` all images
    must share one shape. An image that cannot be decoded is an error that names it; with `skip_damaged` it is left
    out with a warning. There is a warning, too, when colours are lost because the first image is grey.
    """
    path = checked_path("path", path)
    size = checked_size(size)
    grey = None if grey is None else checked_flag("grey", grey)
    checked_flag("skip_damaged", skip_damaged)
    names: list[str] = []
    shape: tuple[int, ...] | None = None
    left_out, asked = 0, grey is not None
    with tempfile.TemporaryFile() as spool:
        for name, content in _progress(archives.members(path, _is_image)):
            label = f"{path}: {name}"
            try:
                stored_grey = grey if asked else is_grey(content, label)
                image = decoded(content, label, size, stored_grey if grey is None else grey)
            except InputError as error:
                if not skip_damaged:
                    raise
                warnings.warn(f"{error}: left out", UserWarning, stacklevel=2)
                left_out += 1
                continue
            grey = stored_grey if grey is None else grey
            if grey and not stored_grey:
                warnings.warn(f"{label} has colours, {names[0]} is grey: all are taken as grey", stacklevel=2)
                asked = True
            if shape is not None and image.shape != shape:
                raise InputError(
                    f"{label} is {_sides(image.shape)} pixels, {names[0]} is {_sides(shape)}: "
                    f"must all be alike, or give 'size'"
                )
            names.append(name)
            shape = image.shape
            spool.write(image.tobytes())
        if left_out and shape is None:
            raise InputError(f"{path}: has no image that can be decoded, {left_out} left out")
        if shape is None:
            raise InputError(f"{path}: has no images (files named *{', *'.join(SUFFIXES)})")
        spool.flush()
        stack = np.memmap(spool, np.uint8, "r", shape=(len(names), *shape))
        order = sorted(range(len(names)), key=names.__getitem__)
        source = archives.source_of(path, names)
        return from_pixels(stack, str(path), standardize, grey, source, np.array(order))


def from_pixels(
    stack: np.ndarray,
    label: str,
    standardize: str,
    grey: bool,
    source: dict[str, Any],
    order: np.ndarray | None = None,
) -> Dataset:
    """Data set of a stack of equal images, uint8 [N, H, W] or [N, H, W, 3], scaled to [0, 1]; in the `order` [N]."""
    height, width = stack.shape[1:3]
    preprocessing = {
        "height": height,
        "width": width,
        "channels": 1 if grey else 3,
        "grey": "ITU-R 601" if grey else None,
        "resize": "antialiased bilinear",
        "range": "[0, 1]",
    }
    x = new_array((len(stack), int(np.prod(stack.shape[1:]))))
    for rows in row_slices(*x.shape):
        block = stack[rows] if order is None else stack[order[rows]]
        x[rows] = block.reshape(len(block), -1) / np.float32(255)
    return standardized(x, standardize, label, source, preprocessing)


def checked_size(size: Any) -> int | None:
    """A number of pixels, or None for the size that the images have."""
    return None if size is None else checked_int("size", size, 1)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _progress(items: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """A counter on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("reading images"), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        yield from progress.track(items)


_BITS = 22  # Pillow's fixed-point precision for 8-bit channels


def decoded(content: bytes, label: str, size: int | None, grey: bool) -> NDArray[np.uint8]:
    """Decode an image, convert it to grey or RGB and resize it to `size` x `size`. Shape [H, W] or [H, W, 3].

    Raises InputError naming the image (`label`) when it is damaged or has more than 8 bits a channel.
    """
    from PIL import Image

    pixels = _opened(content, label, lambda image: image.convert("RGB"))
    if grey:
        pixels = pixels.convert("L")
    if size is not None:
        pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(pixels)


def is_grey(content: bytes, label: str) -> bool:
    """Whether an encoded image has one channel, by its head alone. Raises InputError as `decoded` does."""
    return _opened(content, label, lambda image: image.mode in ("1", "L", "LA"))


def _opened(content: bytes, label: str, read: Callable[[Image.Image], Any]) -> Any:
    """What `read` gives of an image; of an animation that is its first frame."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                raise InputError(f"{label}: mode {image.mode}, must have 8 bits a channel")
            return read(image)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{label}: not an image, or damaged") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{label}: not an image, or damaged ({str(error).splitlines()[0]})") from None


def grey601(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma (ITU-R 601) of planes [N, 3, H, W]: 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point. Shape [N, H, W]."""
    weights = np.array([19595, 38470, 7471], np.int32)
    total = sum(weight * rgb[:, channel].astype(np.int32) for channel, weight in enumerate(weights))
    return ((total + 0x8000) >> 16).astype(np.uint8)


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Antialiased bilinear resize of square images [..., S, S] to [..., size, size]: along the rows, then along the
    columns, rounded in between. (For other shapes the order of the two depends on the version of Pillow.)"""
    side = images.shape[-1]
    if side == size:
        return images
    weights = _weights(side, size)
    return _rounded(weights @ _rounded(images @ weights.T).astype(np.float64))


def _weights(old: int, new: int) -> NDArray[np.float64]:
    """Triangle filter of half-width max(old / new, 1), as integers in units of 2^-22. Shape [new, old]."""
    scale = old / new
    support = max(scale, 1.0)
    center = (np.arange(new)[:, None] + 0.5) * scale
    position = np.arange(old)
    first = np.maximum(np.floor(center - support + 0.5), 0)
    last = np.minimum(np.floor(center + support + 0.5), old)
    triangle = np.maximum(0.0, 1 - np.abs(position - center + 0.5) / support)
    triangle[(position < first) | (position >= last)] = 0
    return np.floor(triangle / triangle.sum(1, keepdims=True) * 2**_BITS + 0.5)


def _rounded(fixed_point: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Products and sums of these integers are exact in float64, so this equals integer arithmetic."""
    return np.clip(np.floor((fixed_point + 2 ** (_BITS - 1)) / 2**_BITS), 0, 255).astype(np.uint8)
