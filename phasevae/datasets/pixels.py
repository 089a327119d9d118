"""Pixels to samples: ITU-R 601 grey and antialiased bilinear resize, with the integer arithmetic of Pillow.

`decoded` treats one encoded image with Pillow; `grey601` and `resize` treat a stack of raw images at once and
give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

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
