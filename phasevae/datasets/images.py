"""Images of a folder or archive, one sample each."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from phasevae.datasets import archives, pixels
from phasevae.datasets.base import Dataset, checked_flag, checked_int, checked_path
from phasevae.datasets.standardize import standardized
from phasevae.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm")


def images(
    *, path: Path | str, size: int | None = None, grey: bool = True, standardize: str = "per-feature"
) -> Dataset:
    """The images of a folder (with its subfolders), .zip or .tar(.gz|.bz2|.xz), in the order of their names.

    Each is made grey (ITU-R 601) or RGB, resized to `size` x `size` (antialiased bilinear) and flattened in the
    order height, width, channel; pixels are divided by 255. Without `size` all images must share one shape.
    """
    path = checked_path("path", path)
    size = checked_size(size)
    grey = checked_flag("grey", grey)
    found: list[tuple[str, np.ndarray]] = []
    for name, content in _progress(archives.members(path, _is_image)):
        found.append((name, pixels.decoded(content, f"{path}: {name}", size, grey)))
        if found[-1][1].shape != found[0][1].shape:
            raise InputError(
                f"{path}: {name} is {_sides(found[-1][1])} pixels, {found[0][0]} is {_sides(found[0][1])}: "
                f"must all be alike, or give 'size'"
            )
    if not found:
        raise InputError(f"{path}: has no images (files named *{', *'.join(SUFFIXES)})")
    found.sort(key=lambda item: item[0])
    stack = np.stack([image for _, image in found])
    source = archives.source_of(path, [name for name, _ in found])
    return from_pixels(stack, str(path), standardize, grey, source)


def from_pixels(stack: np.ndarray, label: str, standardize: str, grey: bool, source: dict[str, Any]) -> Dataset:
    """Data set of a stack of equal images, uint8 [N, H, W] or [N, H, W, 3], scaled to [0, 1]."""
    height, width = stack.shape[1:3]
    preprocessing = {
        "height": height,
        "width": width,
        "channels": 1 if grey else 3,
        "grey": "ITU-R 601" if grey else None,
        "resize": "antialiased bilinear",
        "range": "[0, 1]",
    }
    x = stack.reshape(len(stack), -1) / np.float32(255)
    return standardized(x, standardize, label, source, preprocessing)


def checked_size(size: Any) -> int | None:
    """A number of pixels, or None for the size that the images have."""
    return None if size is None else checked_int("size", size, 1)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _sides(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _progress(items: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """A counter on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("reading images"), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        yield from progress.track(items)
