"""Images of a folder, an archive or a TIFF stack, one sample each."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from phasevae.datasets import archives
from phasevae.datasets.base import Dataset, checked_flag, checked_int, checked_path, row_slices
from phasevae.datasets.files import shown_name
from phasevae.datasets.image_files import (
    BITS,
    LATER_FRAMES,
    MOST_PIXELS,
    MOST_SAMPLE_PIXELS,
    REDUCED_PAGES,
    SUFFIXES,
    DamagedImageError,
    Page,
    converted,
    pages,
)
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import new_array, standardized
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
        stack = _Stack(spool, size, grey)
        most_pixels = MOST_SAMPLE_PIXELS if size is None else MOST_PIXELS
        for name, content in _progress(archives.members(path, _is_image)):
            label = f"{path}: {shown_name(name)}" if path.is_dir() or not _is_image(path.name) else str(path)
            try:
                stack.add_file(name, label, pages(content, label, most_pixels))
            except DamagedImageError as error:
                if not skip_damaged:
                    raise InputError(f"{error}; 'skip_damaged' leaves such images out") from None
                warnings.warn(f"{error}: left out", UserWarning, stacklevel=2)
        if stack.left_out["damaged"] and not stack.names:
            raise InputError(f"{path}: has no image that can be decoded, {stack.left_out['damaged']} left out")
        if not stack.names:
            raise InputError(f"{path}: has no images (files named *{', *'.join(SUFFIXES)})")
        if stack.names == [path.name] and path.is_file() and _is_image(path.name):
            raise InputError(
                f"{path}: is one image, must be a folder or archive of images, or a TIFF file of many pages"
            )
        return standardized(stack.samples(path), standardize, stack.preprocessing())


class _Stack:
    """Equal images in a temporary file, and what is said about them.

    Parameters
    ----------
    spool : binary file
    size, grey
        See `images`.

    Attributes
    ----------
    names : list of str
        The file of each image.
    changes, left_out : Counter of str
        Number of images by what was done to them, and by why they were left out.
    """

    def __init__(self, spool: BinaryIO, size: int | None, grey: bool | None) -> None:
        self._spool, self._size, self._grey = spool, size, grey
        self.names: list[str] = []
        self._shape: tuple[int, ...] = ()
        self._depth = ""
        self._first_is_grey = False
        self.changes: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._mixed = False

    def add_file(self, name: str, label: str, found: Iterable[Page | str]) -> None:
        """Add the images of a file, all or none.

        Parameters
        ----------
        name, label : str
            Name of the file, and its name in messages.
        found : iterable of Page or str
            See `phasevae.datasets.image_files.pages`.

        Raises
        ------
        DamagedImageError
            If one cannot be decoded.
        InputError
            If one does not fit the others.
        """
        start, n_before, changes, left_out = (
            self._spool.tell(),
            len(self.names),
            self.changes.copy(),
            self.left_out.copy(),
        )
        try:
            for page in found:
                if isinstance(page, str):
                    self.left_out[page] += 1
                else:
                    self._add(page, name, label + page.place)
        except DamagedImageError:
            self._spool.seek(start)
            self._spool.truncate()
            del self.names[n_before:]
            self.changes, self.left_out = changes, left_out
            self.left_out["damaged"] += 1
            raise

    def _add(self, page: Page, name: str, label: str) -> None:
        if not self.names:
            self._first_is_grey = page.is_grey
        grey = self._first_is_grey if self._grey is None else self._grey
        pixels = converted(page.image, self._size, grey)
        if not self.names:
            self._shape, self._depth = pixels.shape, page.depth
        first = self.names[0] if self.names else name
        if page.depth != self._depth:
            raise InputError(f"{label} has {page.depth} a channel, {first} has {self._depth}: must all be alike")
        if pixels.shape != self._shape:
            raise InputError(
                f"{label} is {_sides(pixels.shape)} pixels, {first} is {_sides(self._shape)}: "
                f"must all be alike, or give 'size'"
            )
        if grey and self._grey is None and not page.is_grey and not self._mixed:
            warnings.warn(f"{label} has colours, {first} is grey: all are taken as grey", stacklevel=4)
            self._mixed = True
        self.changes.update(page.notes)
        if grey != page.is_grey:
            self.changes["grey" if grey else "grey as three equal colours"] += 1
        if self._size is not None and page.image.size != (self._size, self._size):
            self.changes[f"resized to {self._size} x {self._size}"] += 1
        self.names.append(name)
        try:
            self._spool.write(np.ascontiguousarray(pixels).data)
        except OSError as error:
            raise InputError(f"{tempfile.gettempdir()}: cannot hold the images ({error.strerror})") from None

    def samples(self, path: Path) -> RawSamples:
        """The images in the order of their names, scaled to [0, 1] where their range is known."""
        self._spool.flush()
        dtype = np.uint8 if self._depth == "8 bits" else np.float32
        stack = np.memmap(self._spool, dtype, "r", shape=(len(self.names), *self._shape))
        order = np.array(sorted(range(len(self.names)), key=self.names.__getitem__))
        changes = [
            text if count == len(self.names) else f"{text} ({_counted(count, 'image')})"
            for text, count in self.changes.items()
        ]
        if self._depth != "numbers":
            changes.append(f"divided by {2 ** BITS[self._depth] - 1}")
        left_out = {
            "damaged": "damaged image file",
            LATER_FRAMES: "animation without its first frame",
            REDUCED_PAGES: "reduced page or mask",
        }
        return RawSamples(
            scaled(stack, order),
            str(path),
            archives.source_of(path, list(dict.fromkeys(self.names))),
            parts=_parts(self.names),
            changes=tuple(changes),
            left_out=tuple(f"{_counted(count, left_out[why])}" for why, count in self.left_out.items()),
        )

    def preprocessing(self) -> dict[str, Any]:
        """How the images were prepared, for the record."""
        return preprocessing(self._shape, self._size, self._depth)


def scaled(stack: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Return images as single-precision numbers; those of 8 bits are divided by 255.

    Parameters
    ----------
    stack : uint8 or float32 array [N, H, W] or [N, H, W, 3]
    order : int array [N], optional
        The order of the samples.
    """
    x = new_array((len(stack), int(np.prod(stack.shape[1:]))))
    for rows in row_slices(*x.shape):
        block = stack[rows] if order is None else stack[order[rows]]
        x[rows] = block.reshape(len(block), -1)
        if stack.dtype == np.uint8:
            x[rows] /= np.float32(255)
    return x.reshape(stack.shape)


def preprocessing(shape: tuple[int, ...], size: int | None, depth: str = "8 bits") -> dict[str, Any]:
    """Return how images were prepared, for the record.

    Parameters
    ----------
    shape : tuple of int
        (H, W) or (H, W, 3).
    size : int, optional
        See `images`.
    depth : str
        A key of `BITS`.
    """
    height, width = shape[:2]
    return {
        "height": height,
        "width": width,
        "channels": 1 if len(shape) == 2 else 3,
        "grey": "ITU-R 601" if len(shape) == 2 else None,
        "resize": None if size is None else "antialiased bilinear",
        "bits": BITS[depth],
        "range": "as stored" if depth == "numbers" else "[0, 1]",
    }


def checked_size(size: Any) -> int | None:
    """Return a number of pixels, or None for the size of the stored images. Raises InputError for anything else."""
    return None if size is None else checked_int("size", size, 1)


def _parts(names: list[str]) -> tuple[tuple[str, int], ...]:
    """Number of images by the first folders in which their names differ; by files if a file has several images."""
    folders = [PurePosixPath(name).parent.parts for name in names]
    # What the first and the last in order share, all share.
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(folders), max(folders), strict=False)))
    counts = Counter("/".join(parts[shared : shared + 1]) or "." for parts in folders)
    if len(counts) == 1 and len(set(names)) < len(names):
        counts = Counter(PurePosixPath(name).name for name in names)
    if len(counts) == 1:
        return ()
    return tuple((shown_name(name), count) for name, count in sorted(counts.items()))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _progress(items: Iterable[tuple[str, BinaryIO]]) -> Iterator[tuple[str, BinaryIO]]:
    """A counter on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("reading images"), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        yield from progress.track(items)
