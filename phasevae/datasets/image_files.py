"""The images of a file: decoded, turned as they are to be seen, and with the depth of their colours."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.bounded import MOST_BYTES
from phasevae.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "PPM": (".pgm", ".ppm", ".pnm", ".pbm"),
}
"""The formats that are read, with the endings of their names. Pillow's other readers are never called: that of
PostScript, for one, starts a program."""

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Endings of the names of images; which format a file has is decided by its content."""

MOST_PIXELS = MOST_BYTES // 3
"""Most pixels of an image that becomes smaller: those above which Pillow warns."""

MOST_SAMPLE_PIXELS = 2**22
"""Most pixels of a sample: a statistic of its features takes 100 MB."""

_ORIENTATION = 0x0112  # tag of EXIF; 1 is upright
_SUBFILE, _REDUCED_OR_MASK = 254, 0b101  # tag of TIFF and its bits


class DamagedImageError(InputError):
    """An image that cannot be decoded."""


@dataclass(frozen=True)
class Page:
    """An image of a file.

    Attributes
    ----------
    image : PIL.Image.Image
        Mode L or RGB with 8 bits a channel, or F: 16 bits are scaled to [0, 1], integers and floats are as stored.
    depth : str
        A key of `BITS`.
    notes : tuple of str
        What was done to the image and cannot be seen from its mode.
    place : str
        ", page 2" and so on for the later pages of a file.
    """

    image: Image.Image
    depth: str
    notes: tuple[str, ...]
    place: str = ""

    @property
    def is_grey(self) -> bool:
        """Whether it has one channel."""
        return self.image.mode != "RGB"


BITS = {"8 bits": 8, "16 bits": 16, "numbers": 32}
"""Bits of a channel by the depth of an image; "numbers" are integers or floats without a known range."""

LATER_FRAMES = "all frames but the first"
REDUCED_PAGES = "reduced pages and masks"


def pages(stream: BinaryIO, label: str, most_pixels: int = MOST_PIXELS) -> Iterator[Page | str]:
    """Yield the images of a file: every page of a TIFF file, the first frame of an animation.

    Parameters
    ----------
    stream : binary stream
    label : str
        Name of the file in messages.
    most_pixels : int
        Most pixels of an image.

    Yields
    ------
    Page or str
        A page holds until the next one is asked for. A text says what was left out: LATER_FRAMES or REDUCED_PAGES.

    Raises
    ------
    DamagedImageError
        If the file is no image, is damaged or has too many pixels.
    """
    from PIL import Image

    try:
        # Pillow warns about odd metadata, which are not used, and about images of many pixels, which are refused.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(stream, formats=_formats(stream))
    except Exception as error:
        raise _damaged(label, error) from None
    with image:
        yield from (_tiff_pages if image.format == "TIFF" else _first_frame)(image, label, most_pixels)


def _first_frame(image: Image.Image, label: str, most_pixels: int) -> Iterator[Page | str]:
    yield _page(image, label, most_pixels)
    try:
        animated = image.format in ("PNG", "GIF", "WEBP", "AVIF") and image.is_animated
    except Exception as error:
        raise _damaged(label, error) from None
    if animated:
        yield LATER_FRAMES


def _tiff_pages(image: Image.Image, label: str, most_pixels: int) -> Iterator[Page | str]:
    number = 0
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image.seek(number)
            left_out = number > 0 and bool(int(image.tag_v2.get(_SUBFILE, 0)) & _REDUCED_OR_MASK)
        except EOFError:
            return
        except Exception as error:
            raise _damaged(f"{label}, page {number + 1}", error) from None
        if left_out:
            yield REDUCED_PAGES
        else:
            yield _page(image, label, most_pixels, f", page {number + 1}" if number else "")
        number += 1


def _page(image: Image.Image, label: str, most_pixels: int, place: str = "") -> Page:
    """Decode the present frame of an image."""
    from PIL import Image, ImageOps

    if image.width * image.height > MOST_PIXELS:
        raise _damaged(label + place, Image.DecompressionBombError())
    if image.width * image.height > most_pixels:
        sides = f"{image.width} x {image.height}"
        raise InputError(f"{label}{place} is {sides} pixels, must have at most {most_pixels}, or give --size (size=64)")
    # How the file stores colours, such as "RGB;16B"; other formats have 8 bits. Decoding forgets it.
    stored = image.tile[0][3] if image.format in ("PNG", "TIFF", "PPM") and image.tile else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Decoding turns a TIFF, and of the other formats some have the orientation at the end of the file.
            orientation = _orientation(image) if image.format == "TIFF" else 1
            image.load()
            orientation = _orientation(image) if image.format != "TIFF" else orientation
            upright = ImageOps.exif_transpose(image) if orientation != 1 else image
            unified, depth, notes = _unified(upright, image.format, stored)
    except Exception as error:
        raise _damaged(label + place, error) from None
    return Page(unified, depth, notes if orientation == 1 else ("turned as EXIF says", *notes), place)


def _unified(image: Image.Image, file_format: str | None, stored: Any) -> tuple[Image.Image, str, tuple[str, ...]]:
    """The image in mode L, RGB or F, its depth, and what was done to it."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it has pixels that are NaN or infinite")
        # Of 32 bits, or with a sign, the range is unknown. PNG and PPM have no such numbers.
        if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
            values /= np.float32(65535)
            return Image.fromarray(values), "16 bits", ()
        return Image.fromarray(values), "numbers", ()
    notes = []
    if _is_transparent(image):
        notes.append("transparency dropped")
    if _has_deep_colours(stored):
        notes.append("16-bit colours read with 8 bits")
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        notes.append(f"{image.mode} to RGB")
    # Pillow opens grey with transparency as RGBA if it has 16 bits.
    is_grey = image.mode in ("1", "L", "LA") or str(stored).startswith("LA") or _has_grey_palette(image)
    if is_grey and image.mode not in ("1", "L", "LA"):
        image = image.convert("RGB")
    return _in_mode(image, "L" if is_grey else "RGB"), "8 bits", tuple(notes)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in a mode, itself if it is: Pillow would copy it."""
    return image if image.mode == mode else image.convert(mode)


def _has_grey_palette(image: Image.Image) -> bool:
    palette = image.getpalette("RGB") if image.mode in ("P", "PA") else None
    return palette is not None and palette[0::3] == palette[1::3] == palette[2::3]


def _is_transparent(image: Image.Image) -> bool:
    """Whether a pixel of the image is not opaque."""
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        image = image.convert("RGBA")
    alpha = next((band for band in image.getbands()[1:] if band in "Aa" and image.mode != "LAB"), None)
    return alpha is not None and image.getchannel(alpha).getextrema()[0] < 255


def _has_deep_colours(stored: Any) -> bool:
    """Whether the file has 16 bits a channel, by the arguments of Pillow's decoder: those of PPM end in the maximum."""
    if isinstance(stored, tuple):
        return ";16" in str(stored[0]) or (len(stored) == 2 and isinstance(stored[1], int) and stored[1] > 255)
    return ";16" in str(stored)


def _orientation(image: Image.Image) -> int:
    """The orientation of EXIF, 1 if there is none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises many kinds on damaged metadata, which other programs pass over
        return 1
    return value if value in range(1, 9) else 1


def _formats(stream: BinaryIO) -> tuple[str, ...]:
    """The formats that this Pillow reads; of a large file only TIFF, which is read page by page."""
    from PIL import Image

    Image.init()
    large = os.fstat(stream.fileno()).st_size > MOST_BYTES if not isinstance(stream, io.BytesIO) else False
    return ("TIFF",) if large else tuple(name for name in FORMATS if name in Image.OPEN)


def _damaged(label: str, error: Exception) -> DamagedImageError:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DamagedImageError(f"{label}: has too many pixels, must have at most {MOST_PIXELS}")
    if label.lower().endswith(".avif") and "AVIF" not in Image.OPEN:
        return DamagedImageError(f"{label}: needs Pillow 11.3 or newer, with AVIF")
    reason = "" if isinstance(error, UnidentifiedImageError) else _reason(error)
    return DamagedImageError(f"{label}: not an image, or damaged{reason}")


def _reason(error: Exception) -> str:
    return f" ({str(error).splitlines()[0]})" if str(error) else f" ({type(error).__name__})"


def converted(image: Image.Image, size: int | None, grey: bool) -> NDArray:
    """Convert an image to pixels.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode L, RGB or F.
    size : int, optional
        Resize to `size` x `size` (antialiased bilinear).
    grey : bool
        Convert to grey (ITU-R 601) first.

    Returns
    -------
    array [H, W] or [H, W, 3]
        float32 for mode F, else uint8.
    """
    from PIL import Image

    if image.mode != "F":
        image = _in_mode(image, "L" if grey else "RGB")
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return np.repeat(pixels[..., None], 3, axis=2) if image.mode == "F" and not grey else pixels
