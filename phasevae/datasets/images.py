"""Images of a folder, an archive or a TIFF stack, one sample each."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from phasevae.datasets import archives, readers
from phasevae.datasets.base import Dataset, checked_flag, checked_int, checked_path
from phasevae.datasets.files import folder_files, shown_name
from phasevae.datasets.image_files import MOST_PIXELS, MOST_SAMPLE_PIXELS, SUFFIXES, DamagedImageError, pages
from phasevae.datasets.image_stack import ImageStack
from phasevae.datasets.standardize import standardized
from phasevae.errors import InputError


def images(
    *,
    path: Path | str,
    size: int | None = None,
    grey: bool | None = None,
    standardize: str = "none",
    skip_damaged: bool = False,
) -> Dataset:
    """Build a data set of images in the order of their names, flattened in the order height, width, channel.

    Every page of a TIFF file is a sample, and the first frame of an animation. Images are turned as EXIF says. Values
    of 8 and 16 bits are scaled to [0, 1]; 32-bit integers and floats of TIFF files stay as they are.

    Parameters
    ----------
    path : path
        A folder (with its subfolders, links are followed), .zip, .tar(.gz|.bz2|.xz) or an image file of many pages.
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
    with tempfile.TemporaryFile() as spool:
        stack = ImageStack(spool, size, grey)
        most_pixels = MOST_SAMPLE_PIXELS if size is None else MOST_PIXELS
        for name, content in _progress(archives.members(path, _is_image)):
            label = f"{path}: {shown_name(name)}" if path.is_dir() or not _is_image(path.name) else str(path)
            try:
                stack.add_file(name, label, pages(content, label, most_pixels))
            except DamagedImageError as error:
                if not skip_damaged:
                    raise InputError(f"{error} (--skip-damaged, skip_damaged=True leave such images out)") from None
                warnings.warn(f"{error}: left out", UserWarning, stacklevel=2)
        if stack.left_out["damaged"] and not stack.names:
            raise InputError(f"{path}: has no image that can be decoded, {stack.left_out['damaged']} left out")
        if not stack.names:
            nothing = path.is_dir() and not any(map(readers.reader_of, folder_files(path)))
            missing = "arrays, tables or images" if nothing else "images"
            raise InputError(f"{path}: has no {missing} (images are named *{', *'.join(SUFFIXES)})")
        if stack.names == [path.name] and path.is_file() and _is_image(path.name):
            raise InputError(
                f"{path}: is one image, must be a folder or archive of images, or a TIFF file of many pages"
            )
        return standardized(stack.samples(path), standardize, stack.preprocessing())


def checked_size(size: Any) -> int | None:
    """Return a number of pixels, or None for the size of the stored images. Raises InputError for anything else."""
    return None if size is None else checked_int("size", size, 1)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _progress(items: Iterable[tuple[str, BinaryIO]]) -> Iterator[tuple[str, BinaryIO]]:
    """A counter on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("reading images"), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        yield from progress.track(items)
