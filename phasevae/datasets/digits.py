"""The 8 x 8 handwritten digits that come with scikit-learn: real data without a download."""

from __future__ import annotations

import hashlib

import numpy as np

from phasevae.datasets.base import Dataset
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import standardized

N_SAMPLES, DIMENSION = 1797, 64


def digits(*, standardize: str = "global") -> Dataset:
    """Build a data set of 1,797 digits of 8 x 8 pixels; three pixels are constant (Alpaydin & Kaynak 1998).

    The default is one scale for all pixels. If each pixel were divided by its own standard deviation, a pixel that is
    nonzero in a single image would keep that image encoded far above the largest eigenvalue.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.data
    source = {"file": "sklearn.datasets.load_digits", "sha256": hashlib.sha256(x.astype("<f8").tobytes()).hexdigest()}
    preprocessing = {"height": 8, "width": 8, "channels": 1}
    return standardized(RawSamples(np.asarray(x), "digits", source, labels=digits.target), standardize, preprocessing)
