"""The 8 x 8 handwritten digits that come with scikit-learn: real data without a download."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from phasevae.datasets.base import Dataset
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import standardized
from phasevae.errors import InputError

N_SAMPLES, DIMENSION = 1797, 64
LARGEST_PIXEL = 16


def digits(*, standardize: str = "global", binarize: float | None = None) -> Dataset:
    """Build a data set of 1,797 digits of 8 x 8 pixels; three pixels are constant (Alpaydin & Kaynak 1998).

    The default is one scale for all pixels. If each pixel were divided by its own standard deviation, a pixel that is
    nonzero in a single image would keep that image encoded far above the largest eigenvalue.

    Parameters
    ----------
    standardize : str
        See `phasevae.datasets.standardize`.
    binarize : float, optional
        Pixels above this value, of 0 to 16, become 1 and all others 0.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.data
    source = {"file": "sklearn.datasets.load_digits", "sha256": hashlib.sha256(x.astype("<f8").tobytes()).hexdigest()}
    preprocessing, changes = {"height": 8, "width": 8, "channels": 1}, ()
    if binarize is not None:
        x = (x > _checked_threshold(binarize)).astype(np.float32)
        preprocessing["binarize"] = float(binarize)
        changes = (f"1 where above {binarize:g}, else 0",)
    raw = RawSamples(np.asarray(x), "digits", source, changes=changes, labels=digits.target)
    return standardized(raw, standardize, preprocessing)


def _checked_threshold(binarize: Any) -> float:
    number = isinstance(binarize, int | float) and not isinstance(binarize, bool)
    if not number or not 0 <= binarize < LARGEST_PIXEL:
        raise InputError(f"binarize: {binarize!r}, must be a number from 0 to below {LARGEST_PIXEL}")
    return float(binarize)
