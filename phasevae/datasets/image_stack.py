"""Equal images, one after the other, as samples; and what is said about them."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from phasevae.datasets import archives
from phasevae.datasets.base import row_slices
from phasevae.datasets.files import shown_name
from phasevae.datasets.image_files import BITS, LATER_FRAMES, REDUCED_PAGES, DamagedImageError, Page, converted
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import new_array
from phasevae.errors import InputError
from phasevae.wording import counted


class ImageStack:
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
                f"must all be alike, or give --size (size=64)"
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
            text if count == len(self.names) else f"{text} ({counted(count, 'image')})"
            for text, count in self.changes.items()
        ]
        if self._depth != "numbers":
            changes.append(f"divided by {2 ** BITS[self._depth] - 1}")
        left_out = {
            "damaged": ("", "damaged image file"),
            LATER_FRAMES: ("later frames of ", "animation"),
            REDUCED_PAGES: ("", "reduced page"),
        }
        said = [
            before + counted(self.left_out[why], noun) for why, (before, noun) in left_out.items() if self.left_out[why]
        ]
        return RawSamples(
            scaled(stack, order),
            str(path),
            archives.source_of(path, list(dict.fromkeys(self.names))),
            parts=_parts(self.names),
            changes=tuple(changes),
            left_out=tuple(said),
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


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
