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
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import new_array, standardized
from phasevae.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm")


def images(
    *,
    path: Path | str,
    size: int | None = None,
    grey: bool | None = None,
    standardize: str = "none",
    skip_damaged: bool = False,
) -> Dataset:
    """Build a data set of images in the order of their names, flattened in the order height, width, channel.

    Parameters
    ----------
    path : path
        A folder (with its subfolders), .zip or .tar(.gz|.bz2|.xz).
    size : int, optional
        Resize to `size` x `size` pixels (antialiased bilinear). By default all images must share one shape.
    grey : bool, optional
        Make the images grey (ITU-R 601) or RGB. None: as the first image is, with a warning if colours are lost.
    standardize : str
        See `phasevae.datasets.standardize`; pixels are divided by 255 before.
    skip_damaged : bool
        Leave out images that cannot be decoded, with a warning, instead of an error.
    """
    path = checked_path("path", path)
    size = checked_size(size)
    grey = None if grey is None else checked_flag("grey", grey)
    checked_flag("skip_damaged", skip_damaged)
    names: list[str] = []
    shape: tuple[int, ...] | None = None
    n_damaged, check_colours = 0, grey is None
    with tempfile.TemporaryFile() as spool:
        for name, content in _progress(archives.members(path, _is_image)):
            label = f"{path}: {name}"
            try:
                stored_grey = is_grey(content, label) if check_colours else grey
                pixels = decoded(content, label, size, stored_grey if grey is None else grey)
            except InputError as error:
                if not skip_damaged:
                    raise
                warnings.warn(f"{error}: left out", UserWarning, stacklevel=2)
                n_damaged += 1
                continue
            grey = stored_grey if grey is None else grey
            if grey and not stored_grey:
                warnings.warn(f"{label} has colours, {names[0]} is grey: all are taken as grey", stacklevel=2)
                check_colours = False
            if shape is not None and pixels.shape != shape:
                raise InputError(
                    f"{label} is {_sides(pixels.shape)} pixels, {names[0]} is {_sides(shape)}: "
                    f"must all be alike, or give 'size'"
                )
            names.append(name)
            shape = pixels.shape
            spool.write(pixels.tobytes())
        if n_damaged and shape is None:
            raise InputError(f"{path}: has no image that can be decoded, {n_damaged} left out")
        if shape is None:
            raise InputError(f"{path}: has no images (files named *{', *'.join(SUFFIXES)})")
        spool.flush()
        stack = np.memmap(spool, np.uint8, "r", shape=(len(names), *shape))
        order = sorted(range(len(names)), key=names.__getitem__)
        return from_pixels(stack, str(path), standardize, grey, archives.source_of(path, names), np.array(order))


def from_pixels(
    stack: np.ndarray,
    label: str,
    standardize: str,
    grey: bool,
    source: dict[str, Any],
    order: np.ndarray | None = None,
) -> Dataset:
    """Build a data set of equal images, scaled to [0, 1] and standardised.

    Parameters
    ----------
    stack : uint8 array [N, H, W] or [N, H, W, 3]
    label : str
        Name of the data in messages.
    standardize : str
        See `phasevae.datasets.standardize`.
    grey : bool
        Whether the images are grey.
    source : dict
        The origin of the images, for the provenance.
    order : int array [N], optional
        The order of the samples.
    """
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
    return standardized(RawSamples(x, label, source), standardize, preprocessing)


def checked_size(size: Any) -> int | None:
    """Return a number of pixels, or None for the size of the stored images. Raises InputError for anything else."""
    return None if size is None else checked_int("size", size, 1)


def decoded(content: bytes, label: str, size: int | None, grey: bool) -> NDArray[np.uint8]:
    """Decode an image file and convert it.

    Parameters
    ----------
    content : bytes
    label : str
        Name of the image in messages.
    size, grey
        See `converted`.

    Raises
    ------
    InputError
        If the image is damaged or has more than 8 bits a channel.
    """
    return converted(_opened(content, label, lambda image: image.convert("RGB")), size, grey)


def converted(image: Image.Image, size: int | None, grey: bool) -> NDArray[np.uint8]:
    """Convert an RGB image to pixels.

    Parameters
    ----------
    image : PIL.Image.Image
    size : int, optional
        Resize to `size` x `size` (antialiased bilinear).
    grey : bool
        Convert to grey (ITU-R 601) first.

    Returns
    -------
    uint8 array [H, W] or [H, W, 3]
    """
    from PIL import Image

    if grey:
        image = image.convert("L")
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def is_grey(content: bytes, label: str) -> bool:
    """Return whether an image file has one channel, by its header alone. Raises InputError as `decoded` does."""
    return _opened(content, label, lambda image: image.mode in ("1", "L", "LA"))


def _opened(content: bytes, label: str, read: Callable[[Image.Image], Any]) -> Any:
    """What `read` returns for an image, the first frame of an animation."""
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
